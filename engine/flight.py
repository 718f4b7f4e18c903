"""One render on its way through an engine: where it is, and what there is to say about it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from engine.cost import Fare
from engine.decoder import Plan, Render
from engine.render import Checkpoint, Pixels, RenderSpec, RenderUpdate, UpdateKind

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Flight:
    """A render in flight: what the scheduler seats and the engine steps.

    checkpoint: its last good state, from which it goes on after a pass that raised.
    asked_to_leave: its next pass here is its last. rides_to: how many passes it will have done
    after the one that is under way; 0 between passes. ended: aborted, failed, left or done; nothing
    is said about it any more. announced: ACCEPTED was said; of one that is tried alone only when
    its turn has come.
    """

    spec: RenderSpec
    plan: Plan
    checkpoint: Checkpoint | None
    render: Render | None = None
    asked_to_leave: bool = False
    rides_to: int = 0
    ended: bool = False
    announced: bool = False
    pass_seconds: float = 0.0
    batch_width: int = 0
    fare: Fare = field(default_factory=Fare)

    @property
    def batch_key(self) -> str:
        return self.plan.batch_key

    @property
    def complete(self) -> bool:
        """All passes are done; only pixels are missing."""
        return self.pass_no >= self.plan.passes

    @property
    def leaving(self) -> bool:
        """While a pass is under way also if it brings the end here: who waits is promised the slot
        in time for the next one."""
        last = self.asked_to_leave or self.rides_to >= self.plan.passes
        return self.ended or self.complete or (self.rides_to > 0 and last)

    @property
    def pass_no(self) -> int:
        if self.render is not None:
            return self.render.pass_no
        return self.checkpoint.pass_no if self.checkpoint is not None else 0

    @property
    def drawn(self) -> Render:
        """The family's render; an error before `begin`."""
        if self.render is None:
            raise RuntimeError(f"render {self.spec.render_id} has not begun")
        return self.render

    def update(
        self,
        kind: UpdateKind,
        slots: int,
        preview: Pixels | None = None,
        pixels: Pixels | None = None,
        error: str | None = None,
        rejected: bool = False,
    ) -> RenderUpdate:
        """What there is to say now. slots: of the engine, among which a pass's time is shared."""
        passed, done = kind in (UpdateKind.PASS, UpdateKind.LEFT), kind is UpdateKind.DONE
        return RenderUpdate(
            self.spec.render_id,
            kind,
            pass_no=self.pass_no,
            checkpoint=self.checkpoint.to_bytes() if passed and self.checkpoint else None,
            preview=preview,
            pixels=pixels,
            error=error,
            pass_seconds=self.pass_seconds if passed else 0.0,
            batch_width=self.batch_width if passed else 0,
            cost_seconds=self.fare.whole(self.plan.passes, slots) if done else 0.0,
            rejected=rejected,
        )


def usable_checkpoint(spec: RenderSpec, plan: Plan, model: str) -> Checkpoint | None:
    """The spec's checkpoint, or None to begin again: unreadable, of another model or render."""
    if spec.checkpoint is None:
        return None
    try:
        checkpoint = Checkpoint.from_bytes(spec.checkpoint)
    except ValueError as error:
        logger.warning("render %s begins again: %s", spec.render_id, error)
        return None
    same = checkpoint.model == model and checkpoint.seed == spec.seed
    if same and checkpoint.pass_no <= plan.passes:
        return checkpoint
    logger.warning("render %s begins again: checkpoint of %s", spec.render_id, checkpoint.model)
    return None
