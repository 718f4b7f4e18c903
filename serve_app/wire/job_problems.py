"""Why a job or one of its images has no picture, as its client is answered. Pure."""

from __future__ import annotations

from jobs.job import Job, JobState, Render, RenderState
from serve_app.wire.errors import (
    ApiError,
    ImageExpired,
    ImageFailed,
    JobEnded,
    ModerationBlocked,
    ModerationDetails,
)


def render_problem(render: Render) -> ApiError | None:
    """Why one image will never come, or None."""
    match render.state:
        case RenderState.BLOCKED:
            return blocked((render,))
        case RenderState.FAILED:
            return ImageFailed()
        case RenderState.CANCELLED:
            return JobEnded("The job was cancelled.")
        case RenderState.EXPIRED:
            return JobEnded("The job waited past its deadline.", code="job_expired")
        case RenderState.SUCCEEDED if render.blob is None:
            return ImageExpired()
        case _:
            return None


def job_problem(job: Job) -> ApiError | None:
    """Why an ended job has no image at all, or None. One good image makes a job succeed."""
    match job.state:
        case JobState.BLOCKED:
            return blocked(job.renders)
        case JobState.FAILED:
            return ImageFailed(details={"job_id": job.id})
        case JobState.CANCELLED:
            return JobEnded("The job was cancelled.", details={"job_id": job.id})
        case JobState.EXPIRED:
            message = "The job waited past its deadline."
            return JobEnded(message, code="job_expired", details={"job_id": job.id})
        case JobState.SUCCEEDED if all(render.blob is None for render in job.renders):
            return ImageExpired(details={"job_id": job.id})
        case _:
            return None


def blocked(renders: tuple[Render, ...]) -> ModerationBlocked:
    """The refusal of these images, with where and what for."""
    categories = sorted({category for render in renders for category in render.categories})
    stages = {render.stage for render in renders if render.stage}
    details: ModerationDetails = {
        "moderation_stage": "input" if stages == {"input"} else "output" if stages else "unknown",
        "categories": categories,
    }
    message = (
        "Your request was rejected by the safety system. "
        f"safety_violations=[{', '.join(categories)}]."
    )
    return ModerationBlocked(message, details={"moderation_details": details})
