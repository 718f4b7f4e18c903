"""What a dispatcher knows of many images by looking at those that move is what a look at all of
them would say."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import numpy as np

from dispatch.decoder_inputs import DecoderInputs
from dispatch.in_flight import IN_SLOT, LIVE, InFlightRender, Lease, State
from dispatch.leases import Leases
from dispatch.settings import Stages
from dispatch.verdict_notes import VerdictNotes
from engine.render import Conditioning, RenderUpdate, UpdateKind
from jobs.job import IllegalTransition, Job
from tests.stages.ledger_kit import wish

INPUTS = DecoderInputs(Conditioning.from_numpy("", pooled=np.zeros(4, np.float16)))
UPDATES = (UpdateKind.ACCEPTED, UpdateKind.PASS, UpdateKind.PASS, UpdateKind.DONE)


def leases() -> Leases:
    nowhere: Any = None
    stages = Stages(nowhere, nowhere, nowhere, nowhere)
    return Leases(nowhere, stages, 6.0, asyncio.Event(), VerdictNotes(False))


async def idle(_: Lease) -> None:
    await asyncio.Event().wait()


def happens(render: InFlightRender, chance: random.Random) -> None:
    """Something, allowed in its state or not."""
    events: list[Any] = [render.queue, render.pause, render.preempt, render.settle, render.drop]
    events += [render.queue, lambda: render.dispatch("r", ())] * 4
    pass_no = render.progress.pass_no
    for kind in UPDATES * 2:
        update = RenderUpdate("", kind, pass_no + (kind is UpdateKind.PASS))
        events.append(lambda update=update: render.update(update))
    try:
        chance.choice(events)()
    except IllegalTransition:
        return


async def test_the_index_of_images_by_state_agrees_with_a_look_at_all() -> None:
    held, chance, seen = leases(), random.Random(7), set()
    for number in range(300):
        held.hold(Job.queued(str(number % 100), wish(n=2), 0.0, None), idle)  # some of them again
        for lease in held:
            lease.prepared(INPUTS)
            for render in lease.renders:
                happens(render, chance)
            if chance.random() < 0.05:
                lease.late()
            if chance.random() < 0.05:
                held.drop(lease)
        every = [render for lease in held for render in lease.renders]
        seen |= {render.state for render in every}
        for state in LIVE:
            images = list(held.images(state))
            assert set(images) == {render for render in every if render.state is state}
            assert len(images) == len(set(images))
            on_time = [render for render in images if render.lease.overdue_since is None]
            assert held.count(state) == len(on_time)
        shares = {lease.job.id: lease.furthest_share for lease in held if lease.any_in(*IN_SLOT)}
        assert held.drawn_shares() == shares
    assert seen >= {State.PAUSED, State.READY, State.RENDERING, State.FINISHING, State.SETTLING}
    await held.end()
    assert not any(list(held.images(state)) for state in LIVE)
    assert held.drawn_shares() == {}


async def test_jobs_that_have_ended_are_forgotten_although_nothing_waited_for_a_slot() -> None:
    async def ready(lease: Lease) -> None:
        lease.prepared(INPUTS)

    held = leases()
    for number in range(5):
        held.hold(Job.queued(str(number), wish(), 0.0, None), ready)
    await asyncio.sleep(0)
    for lease in held:
        for render in lease.renders:
            render.queue()
            render.dispatch("r", ())
            render.update(RenderUpdate("", UpdateKind.ACCEPTED, 0))
        held.drop(lease)
    await held.end()
    del lease, render
    gc.collect()
    kept = [one for one in gc.get_objects() if type(one) is Lease]  # asks no object for its class
    assert not [one for one in kept if getattr(one.moved, "__self__", None) is held]
