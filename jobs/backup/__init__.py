"""A ledger and the pictures that it names, copied while it is used, and put back."""
