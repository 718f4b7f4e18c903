"""A decoder at work: states are begun, stepped, saved and dropped. On the engine's thread, except
`finish`, which runs beside the passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from engine.decoder import Decoder, OutOfMemory, RendersBroken
from engine.render import Pixels
from engine.reports import Reports
from engine.scheduled_render import ScheduledRender

logger = logging.getLogger(__name__)

Passed = Callable[[Sequence[ScheduledRender], float], None]
"""Hears of every pass: its renders, each with the pass's number as `next_pass`, and its seconds."""


class Passes:
    """Of one decoder. A render that does not survive a verb is reported as failed."""

    def __init__(
        self,
        decoder: Decoder,
        reports: Reports,
        clock: Callable[[], float],
        passed: Passed | None = None,
        joules: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """passed: see Passed. joules: a counter of what the device has used."""
        self._passed = passed
        self._joules = joules
        self._decoder = decoder
        self._reports = reports
        self._clock = clock
        self._at_work: dict[str, float] = {}

    @property
    def stuck_seconds(self) -> float:
        """How long the decoder has been at the same pass, or at the same pixels."""
        since = list(self._at_work.values())
        return self._clock() - min(since) if since else 0.0

    def begun(self, render: ScheduledRender) -> bool:
        """Begin where needed; False when the family refuses it. State that the family cannot read
        is no reason to fail: the render begins again. Raises OutOfMemory."""
        if render.ended or render.decode_state is not None:
            return not render.ended
        try:
            self._begin(render)
        except OutOfMemory:
            raise
        except Exception as error:
            if render.checkpoint is None:
                self._reports.fail(render, error)
                return False
            logger.exception("render %s begins again", render.spec.render_id)
            render.checkpoint = None
            return self.begun(render)
        return not render.ended

    def run(self, renders: Sequence[ScheduledRender]) -> list[ScheduledRender]:
        """One pass; those that have done it. When it raises, each render tries it alone from its
        last good state, so that a poison render fails and its neighbours do not notice.
        Raises OutOfMemory, with all of them back at their checkpoints."""
        if not renders:
            return []
        try:
            broken = self._timed_step(renders)
        except OutOfMemory:
            self._rewind(renders)
            raise
        except Exception:
            logger.exception("a pass of %d renders raised; trying each alone", len(renders))
        else:
            return [render for render in renders if self._is_well(render, broken)]
        self._rewind(renders)  # behind the except: until then what the pass made stays in memory
        return [render for render in renders if self._ran_alone(render)]

    def save(self, render: ScheduledRender) -> bool:
        """Take a checkpoint; False when that fails."""
        try:
            render.save(self._decoder.checkpoint(render.state))
        except Exception as error:
            logger.exception("render %s cannot be checkpointed", render.spec.render_id)
            self._reports.fail(render, error)
            return False
        return True

    def preview(self, render: ScheduledRender) -> Pixels | None:
        """A preview that cannot be drawn is missed, but does not cost the picture."""
        if render.complete or render.pass_no not in render.spec.preview_after:
            return None
        try:
            return self._decoder.preview(render.state)
        except Exception:
            logger.exception("render %s has no preview", render.spec.render_id)
            return None

    def finish(self, render: ScheduledRender) -> Pixels | Exception:
        """The final picture, or why there is none."""
        try:
            with self._working("pixels"):
                return self._decoder.finish(render.state)
        except OutOfMemory as error:
            return OutOfMemory(str(error))  # that one holds what the try has made
        except Exception as error:
            logger.exception("render %s cannot be finished", render.spec.render_id)
            return error

    def drop(self, render: ScheduledRender) -> None:
        """Let its state go, if it has one."""
        state = render.rewind()
        if state is None:
            return
        try:
            self._decoder.drop(state)
        except Exception:
            logger.exception("the state of render %s was not dropped well", render.spec.render_id)

    def _begin(self, render: ScheduledRender) -> None:
        """From its last good state; a source is encoded here, and the render pays for it."""
        began = self._clock()
        with self._working("pass"):
            render.decode_state = self._decoder.begin(render.spec, render.checkpoint)
        render.cost.add_setup(self._clock() - began)

    def _rewind(self, renders: Sequence[ScheduledRender]) -> None:
        """After a pass that raised, nothing is known of their states."""
        for render in renders:
            self.drop(render)

    def _ran_alone(self, render: ScheduledRender) -> bool:
        try:
            self._begin(render)
            broken = self._timed_step([render])
        except Exception as error:
            logger.exception("render %s fails", render.spec.render_id)
            self._reports.fail(render, error)
            return False
        return self._is_well(render, broken)

    def _is_well(self, render: ScheduledRender, broken: RendersBroken | None) -> bool:
        if broken is None or not any(render.state is state for state in broken.renders):
            return True
        logger.error("render %s is broken: %s", render.spec.render_id, broken)
        self._reports.fail(render, broken)
        return False

    def _timed_step(self, renders: Sequence[ScheduledRender]) -> RendersBroken | None:
        began, used, broken = self._clock(), self._joules(), None
        with self._working("pass"):
            try:
                self._decoder.step([render.state for render in renders])
            except RendersBroken as error:
                broken = error
        took, used = self._clock() - began, self._joules() - used
        if self._passed is not None:
            self._passed(renders, took)
        for render in renders:
            render.pass_seconds, render.batch_width = took, len(renders)
            render.unsaved_seconds += took
            render.cost.add_pass(took, len(renders), used)
        return broken

    @contextmanager
    def _working(self, at: str) -> Iterator[None]:
        self._at_work[at] = self._clock()
        try:
            yield
        finally:
            del self._at_work[at]
