"""What must survive a crash: ledger, fair queue, states, dispatch, blobs."""
