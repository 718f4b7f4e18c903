"""Every event in every state of an image in flight: allowed as the table says, or it raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from dispatch.decoder_inputs import DecoderInputs
from dispatch.in_flight import InFlightRender, Lease, State
from engine.capabilities import Capabilities
from engine.render import Conditioning, LoraUse, RenderUpdate, UpdateKind
from jobs.job import IllegalTransition, Job
from jobs.request import WeightedLora
from tests.stages.ledger_kit import wish

IN_STREAM = {State.DISPATCHED, State.RECALLED, State.ACCEPTED, State.RENDERING}
LIVE = set(State) - {State.SETTLING, State.SETTLED, State.DROPPED}


def reports(kind: UpdateKind) -> Callable[[InFlightRender], object]:
    return lambda render: render.update(RenderUpdate("1/0/0.1", kind, 3))


def leaves(render: InFlightRender) -> None:
    render.lease.preempting = True
    reports(UpdateKind.LEFT)(render)


EVENTS: Mapping[str, tuple[Callable[[InFlightRender], object], set[State], State]] = {
    "queue": (
        InFlightRender.queue,
        IN_STREAM | {State.PREPARING, State.FINISHING, State.PAUSED},
        State.READY,
    ),
    "dispatch": (lambda render: render.dispatch("r", (0.5,)), {State.READY}, State.DISPATCHED),
    "recall": (InFlightRender.recall, {State.DISPATCHED}, State.RECALLED),
    "accepted": (
        reports(UpdateKind.ACCEPTED),
        {State.DISPATCHED, State.RECALLED},
        State.ACCEPTED,
    ),
    "pass": (reports(UpdateKind.PASS), {State.ACCEPTED, State.RENDERING}, State.RENDERING),
    "left unasked": (
        reports(UpdateKind.LEFT),
        {State.ACCEPTED, State.RENDERING},
        State.RENDERING,
    ),
    "left": (
        leaves,
        IN_STREAM | {State.PREPARING, State.READY, State.PAUSED},
        State.PREEMPTED,
    ),
    "done": (reports(UpdateKind.DONE), {State.ACCEPTED, State.RENDERING}, State.FINISHING),
    "pause": (InFlightRender.pause, IN_STREAM | {State.FINISHING}, State.PAUSED),
    "preempt": (
        InFlightRender.preempt,
        IN_STREAM | {State.PREPARING, State.READY, State.PAUSED},
        State.PREEMPTED,
    ),
    "settle": (InFlightRender.settle, LIVE, State.SETTLING),
    "record": (InFlightRender.record, {State.SETTLING}, State.SETTLED),
    "drop": (InFlightRender.drop, LIVE | {State.SETTLING}, State.DROPPED),
}


def in_state(state: State, **wishes: Any) -> InFlightRender:
    lease = Lease.of(Job.queued("1", wish(**wishes), 0.0, None))
    zeros = np.zeros(4, np.float16)
    lease.prepared(DecoderInputs(Conditioning.from_numpy("", pooled=zeros)))
    (render,) = lease.renders
    render.state = state
    return render


def seen(render: InFlightRender) -> dict[str, Any]:
    return {field.name: getattr(render, field.name) for field in fields(render)}


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("state", State)
async def test_every_event_in_every_state(state: State, name: str) -> None:
    happens, sources, target = EVENTS[name]
    render = in_state(state)
    before = seen(render)
    if state in sources:
        happens(render)
        assert render.state is target
    else:
        with pytest.raises(IllegalTransition, match=f"{target} after {state}"):
            happens(render)
        assert seen(render) == before, "nothing was changed"


def test_new_ground_clears_attempts_and_a_restart_is_none() -> None:
    render = in_state(State.ACCEPTED)
    reports(UpdateKind.PASS)(render)
    assert render.fail_attempt() == 1
    reports(UpdateKind.PASS)(render)
    assert (render.attempts, render.furthest, render.progress.pass_no) == (1, 3, 3)
    render.update(RenderUpdate("1/0/0.1", UpdateKind.PASS, 4))
    assert (render.attempts, render.furthest) == (0, 4)


def test_passes_without_a_checkpoint_keep_the_last_one_and_excuse_no_loss() -> None:
    render = in_state(State.READY)
    render.dispatch("r", ())
    for kind, pass_no, checkpoint in (
        (UpdateKind.ACCEPTED, 0, None),
        (UpdateKind.PASS, 3, b"after 3"),
        (UpdateKind.PASS, 5, None),
    ):
        render.update(RenderUpdate("1/0/0.1", kind, pass_no, checkpoint=checkpoint))
    beat = render.beat
    assert (beat.pass_no, beat.checkpoint, beat.checkpoint_pass) == (5, b"after 3", 3)
    assert not render.lost(0, False), "it goes on from pass 3, which is progress"
    render.queue()
    assert render.dispatch("r", ()).checkpoint == b"after 3"
    render.update(RenderUpdate("1/0/0.2", UpdateKind.ACCEPTED, 3))
    render.update(RenderUpdate("1/0/0.2", UpdateKind.PASS, 5))
    assert not render.lost(0, False), "the first time it may be innocent"
    render.queue()
    assert render.dispatch("r", ()).alone
    render.update(RenderUpdate("1/0/0.3", UpdateKind.ACCEPTED, 3))
    assert render.lost(0, False), "with nothing beside it"


def test_a_decoder_of_any_shape_is_told_the_size_that_it_draws() -> None:
    can = Capabilities((1024, 1024), (64, 64), 0, size_multiple=16)
    request = in_state(State.READY).lease.job.request
    spec = in_state(State.READY).dispatch("r", (), can)
    assert (spec.width, spec.height) == (request.width, request.height)
    plain = in_state(State.READY).dispatch("r", ())
    assert (plain.width, plain.height) == (None, None)


def test_a_decoder_is_told_the_loras() -> None:
    asked = (WeightedLora("oil", -0.5), WeightedLora("ink"))
    spec = in_state(State.READY, loras=asked).dispatch("r", ())
    assert spec.loras == (LoraUse("oil", -0.5), LoraUse("ink", 1.0))
    assert in_state(State.READY).dispatch("r", ()).loras == ()
