"""How much is accepted at a time, and in which order."""
