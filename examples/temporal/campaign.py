"""A campaign as a workflow: pictures of all its prompts, a person's yes or no to each, changes to
those that were rejected, and publication. It may take weeks; restarts cost nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    import httpx

    from meltproof_temporal import Generate, MeltproofActivities, Picture, Tweak

HEARTBEAT = timedelta(seconds=10)
"""How soon a dead worker or a cancellation is noticed."""
LONGEST_DRAWING = timedelta(days=1)
"""A job waits no longer in the queue of the service (limits.deadline_seconds)."""
UNTIL_CANCELLED = workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
"""A cancelled campaign ends when the service has cancelled its jobs."""


@dataclass(frozen=True)
class Brief:
    """folder: where the worker publishes. heartbeat_seconds: see HEARTBEAT."""

    prompts: list[str]
    folder: str
    heartbeat_seconds: float = HEARTBEAT.total_seconds()


@dataclass(frozen=True)
class Decision:
    """approved, or what should change: `on a blue background`. Neither drops the picture."""

    picture: str
    approved: bool
    delta: str | None = None


@dataclass(frozen=True)
class Published:
    """files: one for each approved picture. refused: prompts that the service does not draw."""

    files: list[str]
    refused: list[str]


@dataclass(frozen=True)
class Review:
    """What a person sees: pictures that wait for a decision, by prompt."""

    waiting: dict[str, Picture] = field(default_factory=dict)


class Publisher:
    """An activity of one's own beside ours: it fetches pictures with the service's key."""

    def __init__(self, key: str) -> None:
        self._key = key

    @activity.defn(name="publish")
    async def publish(self, picture: Picture, folder: str) -> str:
        """The file; written again after a crash, with the same bytes."""
        if picture.url is None:
            raise ApplicationError("it was never drawn", non_retryable=True)
        headers = {"authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(headers=headers, follow_redirects=True) as http:
            answer = (await http.get(picture.url)).raise_for_status()
        path = Path(folder) / f"{picture.id}.png"
        await asyncio.to_thread(_write, path, answer.content)
        return str(path)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    half.write_bytes(content)
    half.replace(path)


@workflow.defn
class Campaign:
    """Start it with a Brief; decide by signals."""

    def __init__(self) -> None:
        self._waiting: dict[str, Picture] = {}
        self._decisions: dict[str, Decision] = {}
        self._refused: list[str] = []

    @workflow.run
    async def run(self, brief: Brief) -> Published:
        """Every prompt goes its own way; the campaign is done when all are."""
        ways = [self._way(prompt, brief) for prompt in brief.prompts]
        # To the end of each, also when one fails or all are cancelled: none is left behind.
        ends = await asyncio.gather(*ways, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        files = [end for end in ends if isinstance(end, str)]
        return Published(files, self._refused)

    @workflow.signal
    def decide(self, decision: Decision) -> None:
        """Yes or no to one picture; about one that does not wait (any more) it changes nothing."""
        if any(picture.id == decision.picture for picture in self._waiting.values()):
            self._decisions.setdefault(decision.picture, decision)

    @workflow.query
    def review(self) -> Review:
        """What waits for a decision."""
        return Review(dict(self._waiting))

    async def _way(self, prompt: str, brief: Brief) -> str | None:
        heartbeat = timedelta(seconds=brief.heartbeat_seconds)
        try:
            drawn = await workflow.execute_activity_method(
                MeltproofActivities.generate,
                Generate(prompt=prompt, partial_images=1),
                start_to_close_timeout=LONGEST_DRAWING,
                heartbeat_timeout=heartbeat,
                cancellation_type=UNTIL_CANCELLED,
            )
            while (decision := await self._decision(prompt, drawn.pictures[0])).delta is not None:
                drawn = await workflow.execute_activity_method(
                    MeltproofActivities.tweak,
                    Tweak(picture=decision.picture, delta=decision.delta),
                    start_to_close_timeout=LONGEST_DRAWING,
                    heartbeat_timeout=heartbeat,
                    cancellation_type=UNTIL_CANCELLED,
                )
        except ActivityError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError) and cause.type == "moderation_blocked":
                self._refused.append(prompt)
                return None
            raise
        if not decision.approved:
            return None
        return await workflow.execute_activity_method(
            Publisher.publish,
            args=[drawn.pictures[0], brief.folder],
            start_to_close_timeout=timedelta(minutes=5),
            retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=1)),
        )

    async def _decision(self, prompt: str, picture: Picture) -> Decision:
        self._waiting[prompt] = picture
        await workflow.wait_condition(lambda: picture.id in self._decisions)
        del self._waiting[prompt]
        return self._decisions.pop(picture.id)
