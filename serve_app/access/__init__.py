"""Authentication, rate limits by address, and client connections."""
