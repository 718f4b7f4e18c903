"""The chart of k8s/: what kustomize reads is made of it, and all of it is checked strictly."""
