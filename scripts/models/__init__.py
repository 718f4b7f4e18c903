"""What a model that comes, changes and goes costs the others: `make bench-models`."""
