"""`make conformance`: every parameter, field, event, error and header of OpenAI's Images API, what
we do with it, and the check that proves it, through the official clients as they are."""
