"""Activities of Temporal that draw with a Meltproof service; docs/temporal.md.

They speak to its HTTP API as any client does and import nothing of it, so that a worker needs only
temporalio and httpx beside this package.
"""

from meltproof_temporal.activities import MeltproofActivities
from meltproof_temporal.orders import (
    Batch,
    Batched,
    BatchProgress,
    Drawn,
    Edit,
    Generate,
    Picture,
    Progress,
    Refusal,
    Tweak,
)

__all__ = [
    "Batch",
    "BatchProgress",
    "Batched",
    "Drawn",
    "Edit",
    "Generate",
    "MeltproofActivities",
    "Picture",
    "Progress",
    "Refusal",
    "Tweak",
]
