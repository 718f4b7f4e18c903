"""Whether the result of an activity that is told to end is still waited for."""

from __future__ import annotations

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError


async def unwanted() -> bool:
    """True if the workflow cancelled the activity, or has ended.

    A worker that shuts down leaves its jobs to the next attempt, and so does an attempt that took
    too long. Of a workflow that has ended Temporal says no more than that the activity is unknown,
    which an attempt after its heartbeat timeout hears, too: the workflow is asked. It is its newest
    run that counts, since after a reset that one waits for the same job.
    """
    why = activity.cancellation_details()
    if why is None:
        return False
    workflow_id = activity.info().workflow_id
    if why.cancel_requested or not why.not_found or workflow_id is None:
        return why.cancel_requested
    try:
        newest = await activity.client().get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        activity.logger.warning("the workflow could not be asked whether it goes on: %s", error)
        return False
    return newest.status is not WorkflowExecutionStatus.RUNNING
