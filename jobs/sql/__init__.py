"""The Ledger in SQL: each verb one transaction."""
