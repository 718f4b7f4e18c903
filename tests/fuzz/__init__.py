"""Fuzzing the HTTP surface: schemathesis over our OpenAPI document, and hostile files."""
