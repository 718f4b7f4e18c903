"""HTTP routes, one file per idea."""
