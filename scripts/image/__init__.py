"""The container image: built, listed in an SBOM, and run as Kubernetes runs it."""
