"""Decoders that come and go, live on a local cluster, beside the simulator on the same trace."""
