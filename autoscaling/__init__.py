"""How many replicas, and what heat means: pure policies."""
