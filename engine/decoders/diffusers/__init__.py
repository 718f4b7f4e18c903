"""The diffusers family: stock pipelines, a scheduler step at a time, many renders a forward."""
