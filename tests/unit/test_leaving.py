"""Which renders stay in a decoder that stops, and for how long."""

from __future__ import annotations

import pytest

from deployments.leaving import OUT_SECONDS, time_for_calls
from engine.decoder import Plan
from engine.decoders.paced import PacedDecoder
from engine.engine import DecoderEngine
from engine.scheduled_render import ScheduledRender
from tests.stages.engine_kit import Clock, Heard, spec


@pytest.mark.parametrize(
    ("node_seconds", "expected"),
    [
        (None, 30.0),  # fewer replicas are wanted, or a new version comes
        (10.0, 10.0 - OUT_SECONDS),
        (600.0, 30.0),
        (1.0, 0.0),
        (-5.0, 0.0),
    ],
)
def test_calls_go_on_until_the_grace_or_the_node_ends(
    node_seconds: float | None, expected: float
) -> None:
    assert time_for_calls(30.0, node_seconds) == expected


@pytest.mark.parametrize(
    ("pass_seconds", "turns", "within_seconds", "done"),
    [
        (1.0, 1, 20.0, True),  # ten passes, twice as slow as the last one
        (1.0, 1, 19.9, False),
        (1.0, 2, 20.0, False),  # another batch takes every second turn
        (0.0, 1, 1000.0, False),  # no pass was done here: it is not known
    ],
)
def test_a_render_stays_only_if_it_is_surely_done(
    pass_seconds: float, turns: int, within_seconds: float, done: bool
) -> None:
    render = ScheduledRender(spec("a", passes=10), Plan(10, "", 1.0), None)
    render.pass_seconds = pass_seconds
    assert render.done_within(within_seconds, turns) is done


def test_an_engine_hands_on_what_it_cannot_finish_in_time() -> None:
    clock, heard = Clock(), Heard()
    engine = DecoderEngine(PacedDecoder(1000, 0, sleep=clock.sleep), 3, heard, clock)
    engine.add(spec("short", passes=4))
    engine.add(spec("long", passes=40))
    engine.step()
    assert engine.hand_on(within_seconds=10.0) == (1, 1)
    assert not engine.add(spec("late"))
    assert engine.drain()
    assert heard.of("short") == "accepted pass pass pass pass done"
    assert heard.of("long") == "accepted pass left"
    assert heard.last("long").checkpoint is not None
    assert (heard.of("late"), engine.free_slots, engine.admitting) == ("full", 0, False)
    engine.stop()
