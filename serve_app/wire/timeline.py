"""The life of a job as a list of events, from what its dispatchers have written. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from jobs.job import Job, Render
from jobs.life import Hold, unpack
from serve_app.wire.fields import Count


class Happened(StrEnum):
    """What can happen to a job or to one of its images, in the order of a simple life."""

    ACCEPTED = "accepted"  # it is in the ledger
    CLAIMED = "claimed"  # a dispatcher holds it
    ENCODED = "encoded"  # its prompt is encoded and screened
    SLOT = "slot"  # a decoder replica has a slot for it
    FIRST_PASS = "first_pass"
    PREEMPTED = "preempted"  # it has left its slot for another job, and waits again
    HANDED_ON = "handed_on"  # its dispatcher has let it go, and it waits again
    LOST = "lost"  # its dispatcher was gone, at the latest then
    LAST_PASS = "last_pass"  # only pixels are missing
    SCREENED = "screened"  # its exact pixels have a verdict
    FILED = "filed"  # its file is encoded, marked and signed
    STORED = "stored"
    ENDED = "ended"


_ORDER = {event: place for place, event in enumerate(Happened)}


class TimelineEvent(TypedDict):
    """at: seconds since the epoch. image: null is the whole job. lease: which one, from 1. node:
    the address of the replica's machine. passes: done by then. state: of an end."""

    at: float
    event: Annotated[str, Field(json_schema_extra={"enum": [*Happened]})]
    image: Count | None
    lease: Count | None
    worker: str | None
    replica: str | None
    node: str | None
    passes: Count | None
    state: str | None


def timeline(job: Job) -> list[TimelineEvent]:
    """Oldest first. Of a job of an older version only what its row says."""
    events = [_event(job.created_at, Happened.ACCEPTED)]
    claimed: dict[tuple[Happened, int], TimelineEvent] = {}
    for render in job.renders:
        for event in _of_image(render):
            if event["event"] in (Happened.CLAIMED, Happened.ENCODED):  # its job's images together
                which = (Happened(event["event"]), event["lease"] or 0)
                claimed.setdefault(which, {**event, "image": None})
            else:
                events.append(event)
    events += claimed.values()
    if not claimed and job.started_at is not None:
        events.append(_event(job.started_at, Happened.CLAIMED))
    if job.finished_at is not None:
        events.append({**_event(job.finished_at, Happened.ENDED), "state": job.state})
    return sorted(events, key=lambda event: (event["at"], _ORDER[Happened(event["event"])]))


def _of_image(render: Render) -> Iterator[TimelineEvent]:
    holds = unpack(render.life)
    for number, hold in enumerate(holds):
        later = holds[number + 1 :]
        for event in _of_hold(hold, later[0] if later else None):
            yield {**event, "image": render.index, "lease": hold.lease}


def _of_hold(hold: Hold, later: Hold | None) -> Iterator[TimelineEvent]:
    yield {**_event(hold.claimed, Happened.CLAIMED), "worker": hold.worker}
    for slot in hold.slots:
        event = _event(slot.at, Happened.SLOT)
        node, passes = slot.node or None, slot.from_pass
        yield {**event, "replica": slot.replica, "node": node, "passes": passes}
    marks = {
        Happened.ENCODED: hold.encoded,
        Happened.FIRST_PASS: hold.first_pass,
        Happened.LAST_PASS: hold.last_pass,
        Happened.SCREENED: hold.screened,
        Happened.FILED: hold.finished,
        Happened.STORED: hold.stored,
    }
    for what, at in marks.items():
        if at is not None:
            yield _event(at, what)
    if hold.left is not None:
        how = Happened.PREEMPTED if hold.preempted else Happened.HANDED_ON
        yield {**_event(hold.left, how), "passes": hold.passes}
    elif later is not None:
        yield {**_event(later.claimed, Happened.LOST), "passes": hold.passes}


def _event(at: float, what: Happened) -> TimelineEvent:
    return {
        "at": round(at, 3),
        "event": what,
        "image": None,
        "lease": None,
        "worker": None,
        "replica": None,
        "node": None,
        "passes": None,
        "state": None,
    }
