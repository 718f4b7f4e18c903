"""Databases: connections, tables, statements, and what SQLite and PostgreSQL do differently."""
