"""The ledger as event loops use it: awaited, batched, woken up."""
