"""Pictures that clients send or name by URL, made safe and stored."""
