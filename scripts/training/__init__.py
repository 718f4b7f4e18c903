"""Training of the embedded model: data, stages, export. Nothing here runs in the service."""
