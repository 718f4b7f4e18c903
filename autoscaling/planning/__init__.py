"""How much of everything a lane needs, before a GPU is bought: arithmetic with its sources."""
