"""What else one could serve the same model with; each answers the same request with a picture."""
