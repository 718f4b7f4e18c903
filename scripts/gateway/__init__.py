"""What the gateway and the metrics cost, on a live cluster."""
