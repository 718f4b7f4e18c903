"""What the screens find, and what they block wrongly."""
