"""The renders in flight of one engine, and what is said of them: one update at a time, and none
after a render's end. For any thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from engine.decoder import RenderRejected
from engine.render import Pixels, RenderUpdate, UpdateKind
from engine.scheduled_render import ScheduledRender

logger = logging.getLogger(__name__)


class Reports:
    """Of an engine with that many slots; `emit` is called under its lock.

    changed: the engine's lock, notified when a render comes or ends.
    """

    def __init__(
        self, emit: Callable[[RenderUpdate], None], slots: int, clock: Callable[[], float]
    ) -> None:
        self.changed = threading.Condition()
        self.emptied_at = clock()
        """When the last render ended that was alone."""
        self._emit = emit
        self._slots = slots
        self._clock = clock
        self._renders: dict[str, ScheduledRender] = {}
        self._ended: list[ScheduledRender] = []

    def __len__(self) -> int:
        return len(self._renders)

    def __iter__(self) -> Iterator[ScheduledRender]:
        return iter(list(self._renders.values()))

    def get(self, render_id: str) -> ScheduledRender | None:
        """One that is in flight."""
        return self._renders.get(render_id)

    def open(self, render: ScheduledRender) -> None:
        """It is taken in."""
        with self.changed:
            self._renders[render.spec.render_id] = render

    def announce(self, render: ScheduledRender) -> None:
        """ACCEPTED, once."""
        with self.changed:
            if not render.announced:
                render.announced = True
                self.send(render, UpdateKind.ACCEPTED)

    def full(self, render_id: str, unread: str | None = None) -> None:
        """There is no room for it; or its conditioning is `unread`, see RenderUpdate."""
        with self.changed:
            self._emit(RenderUpdate(render_id, UpdateKind.FULL, unread=unread))

    def passed(self, render: ScheduledRender, preview: Pixels | None) -> None:
        """A pass is done."""
        self.send(render, UpdateKind.PASS, preview=preview)

    def left(self, render: ScheduledRender, preview: Pixels | None = None) -> None:
        """It goes on elsewhere."""
        with self.changed:
            self.send(render, UpdateKind.LEFT, preview=preview)
            self.end(render)

    def done(self, render: ScheduledRender, pixels: Pixels) -> None:
        """Here is its picture."""
        with self.changed:
            self.send(render, UpdateKind.DONE, pixels=pixels)
            self.end(render)

    def fail(self, render: ScheduledRender, error: Exception) -> None:
        """It cannot go on."""
        rejected = isinstance(error, RenderRejected)
        text = str(error) if rejected else f"{type(error).__name__}: {error}"
        with self.changed:
            self.send(render, UpdateKind.FAILED, error=text, rejected=rejected)
            self.end(render)

    def end(self, render: ScheduledRender) -> None:
        """No more updates of this render; forget it, but for its state."""
        with self.changed:
            if render.ended:
                return
            render.ended = True
            self._ended.append(render)
            if self._renders.get(render.spec.render_id) is render:
                del self._renders[render.spec.render_id]
                if not self._renders:
                    self.emptied_at = self._clock()
            self.changed.notify_all()

    @property
    def any_to_drop(self) -> bool:
        """Whether the states of ended renders wait for `take_ended`."""
        return any(not render.finishing for render in self._ended)

    def take_ended(self) -> list[ScheduledRender]:
        """Renders that have ended, whose states are in no other thread's hands."""
        with self.changed:
            ended = [render for render in self._ended if not render.finishing]
            self._ended = [render for render in self._ended if render.finishing]
            return ended

    def send(
        self,
        render: ScheduledRender,
        kind: UpdateKind,
        preview: Pixels | None = None,
        pixels: Pixels | None = None,
        error: str | None = None,
        rejected: bool = False,
    ) -> None:
        """A listener that raises is gone: its render is dropped, the others go on."""
        update = render.update(kind, self._slots, preview, pixels, error, rejected)
        with self.changed:
            if render.ended:
                return
            try:
                self._emit(update)
            except Exception:
                logger.exception("the updates of render %s cannot be delivered", update.render_id)
                self.end(render)
