"""`make bench-families`: the diffusers family beside its stock pipelines."""
