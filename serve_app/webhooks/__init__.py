"""Deliveries of webhooks: signed, sent to checked addresses, by every gateway."""
