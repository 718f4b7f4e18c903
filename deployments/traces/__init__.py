"""Traces of orders for an OpenTelemetry collector: from the request to every pass."""
