"""`make bench-overload`: ten times the work that the lane can do, and what becomes of it."""
