"""Where pictures are stored, and how they are deleted."""
