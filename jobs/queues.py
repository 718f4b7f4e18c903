"""Names of queues, which the ledger's tables call `lane`: each model of a lane has one of its own.

The first one's has the lane's own name, which is what a lane with one model always had; the others
are called `lane/model`. A lane's name has no slash, so that no queue can be another lane's.
"""

from __future__ import annotations

SEPARATOR = "/"


def queue_name(lane: str, model: str) -> str:
    """Of a model that is not its lane's first."""
    return f"{lane}{SEPARATOR}{model}"


def lane_of(queue: str) -> str:
    """The lane that a queue belongs to."""
    return queue.partition(SEPARATOR)[0]
