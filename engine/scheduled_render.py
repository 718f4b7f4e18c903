"""One render inside an engine: where it is, and its updates."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from engine.cost import CostMeter
from engine.decoder import DecodeState, Plan
from engine.region import to_hex
from engine.render import Checkpoint, Pixels, RenderSpec, RenderUpdate, UpdateKind

logger = logging.getLogger(__name__)

SURELY = 2.0
"""Passes may become so many times slower, and pixels have to be made, too."""


@dataclass(eq=False, slots=True)
class ScheduledRender:
    """A render in an engine's batch: what the scheduler orders and the engine steps."""

    spec: RenderSpec
    plan: Plan
    checkpoint: Checkpoint | None
    """Its last good state, from which it goes on after a pass that raised."""
    decode_state: DecodeState | None = None
    unsaved_seconds: float = 0.0
    """Of passes since that checkpoint."""
    raised_at: int = 0
    """A pass that raised with it in the batch. Until it is done every pass is a checkpoint: set
    back by more than one pass, the batch would meet what raised again and again."""
    asked_to_leave: bool = False
    """Its next pass here is its last."""
    next_pass: int = 0
    """The number of the pass that is under way; 0 between passes."""
    ended: bool = False
    """Aborted, failed, left or done: no more updates."""
    announced: bool = False
    """ACCEPTED was sent; of one that is tried alone only when its turn has come."""
    finishing: bool = False
    """The finishing thread has its state."""
    pixels_alone: bool = False
    """Its pixels found no room beside the passes."""
    pass_seconds: float = 0.0
    batch_width: int = 0
    cost: CostMeter = field(default_factory=CostMeter)

    @property
    def batch_key(self) -> str:
        return self.plan.batch_key

    @property
    def complete(self) -> bool:
        """All passes are done; only pixels are missing."""
        return self.pass_no >= self.plan.passes

    @property
    def leaving(self) -> bool:
        """While a pass is under way also if it is the last here: a waiting render is promised the
        slot in time for the next one."""
        last = self.asked_to_leave or self.next_pass >= self.plan.passes
        return self.ended or self.complete or (self.next_pass > 0 and last)

    def checkpoint_due(self, leaving: bool) -> bool:
        """After a pass. One that is tried alone saves every pass: it may end the process."""
        if leaving or self.complete or self.spec.alone or self.pass_no <= self.raised_at:
            return True
        return self.unsaved_seconds >= self.plan.checkpoint_seconds

    def done_within(self, seconds: float, turns: int) -> bool:
        """Whether all its passes are surely done by then, if they go on as its last one went; not
        known before its first one here. turns: how many batches share the passes."""
        left = (self.plan.passes - self.pass_no) * self.pass_seconds * turns
        return self.complete or 0.0 < left * SURELY <= seconds

    def save(self, checkpoint: Checkpoint) -> None:
        """It goes on from here."""
        self.checkpoint, self.unsaved_seconds = checkpoint, 0.0

    def rewind(self) -> DecodeState | None:
        """Back to its checkpoint; the state that it has no more."""
        state, self.decode_state = self.decode_state, None
        self.raised_at = max(self.raised_at, self.next_pass)
        self.unsaved_seconds = 0.0
        return state

    @property
    def pass_no(self) -> int:
        if self.decode_state is not None:
            return self.decode_state.pass_no
        return self.checkpoint.pass_no if self.checkpoint is not None else 0

    @property
    def state(self) -> DecodeState:
        """The family's state; an error before `begin`."""
        if self.decode_state is None:
            raise RuntimeError(f"render {self.spec.render_id} has not begun")
        return self.decode_state

    def update(
        self,
        kind: UpdateKind,
        slots: int,
        preview: Pixels | None = None,
        pixels: Pixels | None = None,
        error: str | None = None,
        rejected: bool = False,
    ) -> RenderUpdate:
        """An update of that kind. slots: of the engine, among which a pass's time is shared."""
        passed, done = kind in (UpdateKind.PASS, UpdateKind.LEFT), kind is UpdateKind.DONE
        saved = self.checkpoint if passed else None
        if saved is not None and saved.pass_no != self.pass_no:
            saved = None
        return RenderUpdate(
            self.spec.render_id,
            kind,
            pass_no=self.pass_no,
            decoded=self.plan.passes > 0 and self.complete,
            checkpoint=saved.to_bytes() if saved is not None else None,
            preview=preview,
            pixels=pixels,
            error=error,
            pass_seconds=self.pass_seconds if passed else 0.0,
            batch_width=self.batch_width if passed else 0,
            cost_seconds=self.cost.total(self.plan.passes, slots) if done else 0.0,
            gpu_seconds=self.cost.seconds if passed or done else 0.0,
            joules=self.cost.joules if passed or done else 0.0,
            rejected=rejected,
            redrawn=self._redrawn() if done else None,
        )

    def _redrawn(self) -> str | None:
        redrawn = self.state.redrawn
        return None if self.spec.source is None or redrawn is None else to_hex(redrawn)


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
