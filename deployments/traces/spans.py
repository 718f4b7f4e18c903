"""The spans of one image, from what its dispatchers wrote down. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dispatch.metering import SettledImage
from jobs.job import RenderState
from jobs.life import Hold, unpack

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class StageSpan:
    """Times are seconds since the epoch on the ledger's clock. inside: what it consists of."""

    name: str
    begin: float
    end: float
    said: Mapping[str, Value] = field(default_factory=dict)
    inside: tuple[StageSpan, ...] = ()
    failed: bool = False


def image_span(image: SettledImage) -> StageSpan:
    """Its time in the queue, then lease by lease, whichever dispatcher held them."""
    job, state, holds, now = image.job, image.outcome.state, unpack(image.outcome.life), image.at
    leases = tuple(_lease(hold, until) for hold, until in _with_ends(holds, now))
    queue = tuple(StageSpan("queue", job.created_at, first.claimed) for first in holds[:1])
    said: dict[str, Value] = {
        "meltproof.job": job.id,
        "meltproof.image": image.index,
        "meltproof.state": state,
        "meltproof.model": job.request.model,
        "meltproof.queue": job.request.lane,
        "meltproof.tier": job.request.tier,
        "meltproof.passes": job.request.passes,
        "meltproof.preemptions": job.preemptions,
    }
    failed = state is RenderState.FAILED
    return StageSpan("image", job.created_at, now, said, (*queue, *leases), failed)


def _with_ends(holds: tuple[Hold, ...], now: float) -> Iterator[tuple[Hold, float]]:
    """Each with when it ended: one whose dispatcher died is over when the next one begins."""
    for hold, following in zip(holds, (*holds[1:], None), strict=True):
        until = now if following is None else following.claimed
        yield hold, until if hold.left is None else min(hold.left, until)


def _lease(hold: Hold, until: float) -> StageSpan:
    said: dict[str, Value] = {"meltproof.worker": hold.worker, "meltproof.lease": hold.lease}
    if hold.preempted:
        said["meltproof.preempted"] = True
    stages = (
        _between("encode", hold.claimed, hold.encoded),
        *_slots(hold, until),
        _between("screen", hold.last_pass, hold.screened),
        _between("finish", hold.screened, hold.finished),
        _between("store", hold.finished, hold.stored),
    )
    there = tuple(stage for stage in stages if stage is not None)
    return StageSpan("lease", hold.claimed, until, said, there)


def _slots(hold: Hold, until: float) -> Iterator[StageSpan]:
    """Its renders: a slot is left when the next one is given, or after the last pass."""
    for slot, following in zip(hold.slots, (*hold.slots[1:], None), strict=True):
        last = until if hold.last_pass is None else hold.last_pass
        end = max(slot.at, last if following is None else following.at)
        said: dict[str, Value] = {
            "meltproof.replica": slot.replica,
            "meltproof.from_pass": slot.from_pass,
        }
        yield StageSpan("render", slot.at, end, said)


def _between(name: str, begin: float | None, end: float | None) -> StageSpan | None:
    return None if begin is None or end is None else StageSpan(name, begin, max(begin, end))
