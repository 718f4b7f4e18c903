"""What a batch costs, and what it fills: `make bench-batch`."""
