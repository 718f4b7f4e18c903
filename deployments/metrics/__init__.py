"""What Prometheus is told: named in catalogue.py, kept in files of the node, served once a node."""
