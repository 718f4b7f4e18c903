"""Bounds of OpenAI's Files API, as requests state them."""

MOST_LISTED = 1000
"""Files on one page of a list."""
LEAST_SECONDS = 3600
"""The shortest life that `expires_after[seconds]` may ask for."""
