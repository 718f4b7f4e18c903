"""How cost grows with what there is: `make bench-growth`."""
