"""Classifiers that an operator brings as checkpoints of Hugging Face's format."""
