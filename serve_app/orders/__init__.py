"""What the routes share: from a validated request to an accepted job and its answer."""
