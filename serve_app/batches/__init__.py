"""Batches at the gateway: lines validated, fed to the ledger as jobs, and collected into files."""
