"""What Ray runs: thin shells without decisions."""
