"""Servers that tests, benches and chaos start beside Meltproof: each a context manager."""
