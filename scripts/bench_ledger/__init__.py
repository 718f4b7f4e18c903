"""What the ledger can bear, on each of its databases: `python -m scripts.bench_ledger`."""
