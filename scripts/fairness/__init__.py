"""`python -m scripts.fairness`: who waits for whom, measured with real ledgers and dispatchers.

Decoders are of the paced family, whose passes last what a cost line says, so that queues are
measured and not the cores. Everything runs as on a cluster, in processes of its own, without Ray.
"""
