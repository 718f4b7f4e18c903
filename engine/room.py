"""Passes within the decoder's memory: who goes on when something does not fit. On the engine's
thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from engine.decoder import OutOfMemory, RenderRejected
from engine.passes import Passes
from engine.reports import Reports
from engine.scheduled_render import ScheduledRender
from engine.scheduler import Scheduler

logger = logging.getLogger(__name__)


class Room:
    """Of one engine.

    A render that does not fit alone, with no pixels in the making, will fit nowhere: it is
    rejected, and its neighbours do not notice. Renders that fit one by one, but not together, are
    too many: half of them go on, those that came first, and the others leave for elsewhere.
    """

    def __init__(
        self,
        passes: Passes,
        reports: Reports,
        scheduler: Scheduler[ScheduledRender],
        pixels_made: Callable[[], None],
    ) -> None:
        """pixels_made: waits until none are in the making."""
        self._passes = passes
        self._reports = reports
        self._scheduler = scheduler
        self._pixels_made = pixels_made

    def advance(self, batch: Sequence[ScheduledRender]) -> list[ScheduledRender]:
        """One pass; those that have done it."""
        begun = [render for render in batch if self.begun(render)]
        try:
            return self._passes.run(begun)
        except OutOfMemory as error:
            reason = str(error)
        # behind the except: until then what the pass made stays in memory
        tried = begun if len(begun) == 1 else [r for r in begun if not r.batch_width]
        fitting = [render for render in tried if self._ran_alone(render)]
        if len(fitting) < len(tried) or len(begun) == 1:
            return fitting  # it was those that are gone now
        self._shrink(begun, reason)
        return fitting

    def begun(self, render: ScheduledRender) -> bool:
        """See Passes; one that does not fit beside what is there leaves."""
        if (reason := self._no_room_for(render)) is None:
            return not render.ended
        self._pixels_made()
        self.drop_ended()
        if (reason := self._no_room_for(render)) is None:
            return not render.ended
        beside = sum(other.decode_state is not None for other in self._reports)
        if not beside:
            self._reports.fail(render, too_large(reason))
            return False
        logger.warning("no memory for more than %d renders: %s", beside, reason)
        self._reports.left(render)
        with self._reports.changed:
            surplus = self._scheduler.shrink(beside)
        self._send_away(surplus)
        return False

    def drop_ended(self) -> None:
        """Let the states of ended renders go."""
        for render in self._reports.take_ended():
            self._passes.drop(render)

    def send_away(self, render: ScheduledRender) -> None:
        """It goes on elsewhere, from where it is."""
        if render.unsaved_seconds == 0.0 or self._passes.save(render):
            self._reports.left(render)

    def _no_room_for(self, render: ScheduledRender) -> str | None:
        try:
            self._passes.begun(render)
        except OutOfMemory as error:
            return str(error)
        return None

    def _ran_alone(self, render: ScheduledRender) -> bool:
        self._pixels_made()
        if not self.begun(render):
            return False
        try:
            return bool(self._passes.run([render]))
        except OutOfMemory as error:
            self._reports.fail(render, too_large(str(error)))
            return False

    def _shrink(self, batch: Sequence[ScheduledRender], reason: str) -> None:
        with self._reports.changed:
            for render in batch:
                render.next_pass = 0
            surplus = self._scheduler.shrink()
            width = self._scheduler.width
        logger.warning(
            "no memory for a pass of %d renders: %d at a time from now on, %d leave: %s",
            len(batch), width, len(surplus), reason,
        )  # fmt: skip
        self._send_away(surplus)

    def _send_away(self, surplus: Sequence[ScheduledRender]) -> None:
        for render in surplus:
            self.send_away(render)


def too_large(reason: str) -> RenderRejected:
    """reason: the message of OutOfMemory, which says what would fit."""
    return RenderRejected(f"there is not enough memory for this render, even alone: {reason}")
