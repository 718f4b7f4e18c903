"""Breaking things under load, and proving afterwards that nothing was lost: `make chaos`."""
