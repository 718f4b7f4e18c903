"""A cluster of several nodes on one machine, broken under load: `make chaos-cluster`."""
