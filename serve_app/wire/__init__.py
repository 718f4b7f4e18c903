"""JSON in, JSON out: the OpenAI Images API and our extension of it. Pure."""
