"""Whose joules they are: a GPU's counter, a pass, a render, its job."""

from __future__ import annotations

from itertools import count

import pytest

from deployments.replica_energy import counter
from dispatch.render_life import RenderLife
from dispatch.stage_times import StageTimes
from engine.engine import DecoderEngine
from engine.registry import create_decoder
from engine.render import RenderUpdate, UpdateKind
from jobs.job import Job, Render, RenderState
from jobs.life import unpack
from tests.stages.engine_kit import spec
from tests.stages.ledger_kit import wish


def test_replicas_that_share_a_gpu_share_its_joules() -> None:
    node = {"gpu0": 100.0, "gpu1": 10.0, "gpu2": 1.0}
    assert counter(lambda: node, ["gpu1"], 0.5)() == 5.0
    assert counter(lambda: node, ["gpu0", "gpu2"], 2.0)() == 101.0
    assert counter(lambda: node, [], 0.0)() == 0.0
    assert counter(dict, ["gpu0"], 1.0)() == 0.0, "no counter"


def test_a_pass_is_shared_by_its_renders() -> None:
    """Each pass takes ten joules; what is used between passes belongs to no render."""
    read = count(0, 10)
    updates: list[RenderUpdate] = []
    decoder = create_decoder("paced", pass_ms=0.0, per_row_ms=0.0)
    engine = DecoderEngine(decoder, 2, updates.append, joules=lambda: float(next(read)))
    for name in ("a", "b"):
        engine.add(spec(name, passes=4))
    while engine.running:
        engine.step()
    engine.drain()
    used = {u.render_id: u.joules for u in updates if u.kind is UpdateKind.PASS}
    assert used == {"a": 20.0, "b": 20.0}


def test_joules_of_all_tries_are_the_renders() -> None:
    job = Job.queued("1", wish(), 0.0, None)
    life = RenderLife.of(job, Render(0, RenderState.WAITING, joules=5.0))
    times = StageTimes.of(job, 1.0, 0)
    for replica in ("one", "two"):
        life.sent_to(replica, "10.0.0.1")
        life.accepted(1.0, 0)
        life.drew(RenderUpdate("", UpdateKind.PASS, 1, joules=2.0))
        life.drew(RenderUpdate("", UpdateKind.PASS, 2, joules=4.0))
    assert life.said(times)["joules"] == pytest.approx(13.0)
    (hold,) = unpack(life.said(times, whole=True)["life"])
    assert [(slot.replica, slot.node) for slot in hold.slots] == [
        ("one", "10.0.0.1"), ("two", "10.0.0.1"),
    ]  # fmt: skip
