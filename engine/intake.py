"""Untrusted pictures: each is decoded in a process of its own, which may crash or be taken over.

Blocking; call it from a thread. Each of its threads owns one warm server (engine.untrusted.child)
that forks a child for each call, so that all die with the thread, and replaces it after a call that
failed.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engine.fork_server import ForkServer
from engine.untrusted.budget import Budget, Field, Refused
from engine.untrusted.frames import Head, Message, receive, send
from engine.untrusted.kinds import Size, kind_of

__all__ = ["Budget", "Canvas", "Intake", "Kept", "Normalised", "Reference", "Refused", "kind_of"]

T = TypeVar("T")

ANSWER_BYTES_PER_PIXEL = 8
START_SECONDS = 30.0
BUDGET = Budget()


@dataclass(frozen=True, slots=True)
class Normalised:
    """A picture without a past: an upright sRGB PNG (RGB or RGBA, 8 bits) without metadata."""

    png: bytes = field(repr=False)
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Kept:
    """An upright sRGB picture without metadata, of the kind it came in and about as large; of a
    photo of very many pixels a half, a quarter or an eighth of its size. kind: PNG, JPEG, WEBP."""

    data: bytes = field(repr=False)
    kind: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Canvas:
    """What an edit is drawn on. canvas: RGBA PNG, alpha 255 keep, 0 redraw. small: an RGB
    PNG, with a mask RGBA. redraw: bool [cells], rows first; None when there was no mask."""

    canvas: bytes = field(repr=False)
    small: bytes = field(repr=False)
    redraw: npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Reference:
    """What a model looks at. png: RGB. width, height: of the picture as it came in."""

    png: bytes = field(repr=False)
    width: int
    height: int


class Intake:
    """workers: pictures decoded at once. RuntimeError when a picture cannot be decoded at all.

    Call `close` at the end.
    """

    module = "engine.untrusted.child"

    def __init__(self, *, workers: int = 1, budget: Budget = BUDGET) -> None:
        self._budget = budget
        self._mine = threading.local()
        self._servers: set[_Server] = set()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="intake")
        try:
            self._threads.submit(self._server).result()
        except BaseException:
            self._threads.shutdown()
            raise

    def normalise(self, data: bytes, field: Field = "image") -> Normalised:
        """One picture, upright and plain, whatever it was. Refused."""
        png, width, height = self._ask({"verb": "normalise"}, {field: data}, _read_normalised)
        return Normalised(png, width, height)

    def keep(self, data: bytes, field: Field = "image") -> Kept:
        """One picture in a compact form. Refused."""
        return self._ask({"verb": "keep"}, {field: data}, partial(_read_kept, self._budget))

    def reference(self, image: bytes, markup: bytes | None, most_pixels: int) -> Reference:
        """The picture with its markup on it, scaled to at most so many pixels. Refused."""
        files = {"image": image} if markup is None else {"image": image, "markup": markup}
        head = {"verb": "reference", "most_pixels": most_pixels}
        return self._ask(head, files, partial(_read_reference, self._budget, most_pixels))

    def canvas(
        self,
        image: bytes,
        *,
        mask: bytes | None,
        markup: bytes | None,
        size: Size,
        small_size: Size,
        grid: Size,
    ) -> Canvas:
        """The image filling `size`, cut at the centre, with what is to be edited transparent. Mask
        and markup are PNGs of the image's size. All sizes are (width, height). Refused."""
        files = {"image": image, "mask": mask, "markup": markup}
        head = {"verb": "canvas", "size": size, "small_size": small_size, "grid": grid}
        given = {name: data for name, data in files.items() if data is not None}
        cells = None if mask is None else grid[0] * grid[1]
        return self._ask(head, given, partial(_read_canvas, size, small_size, cells))

    def pids(self) -> tuple[int, ...]:
        """Of the servers that are alive now."""
        return tuple(child.pid for child in tuple(self._servers) if child.alive)

    def close(self) -> None:
        """Let calls under way end, then end the children."""
        self._threads.shutdown()
        while self._servers:
            self._servers.pop().kill()

    def _ask(self, head: Head, files: Mapping[str, bytes], read: Callable[[Message], T]) -> T:
        for name, data in files.items():
            if len(data) > self._budget.file_bytes:
                limit = f"{self._budget.file_bytes / 1e6:g} MB"
                reason = (
                    f"the {name} has {len(data) / 1e6:.1f} MB; at most {limit}: make it smaller"
                )
                raise Refused(name, "image_too_large", reason)
        request = {**head, "fields": list(files)}
        return self._threads.submit(self._in_server, request, [*files.values()], read).result()

    def _in_server(self, head: Head, parts: list[bytes], read: Callable[[Message], T]) -> T:
        child = self._server()
        try:
            return read(child.ask(head, parts, self._budget))
        except Refused:
            raise
        except (OSError, EOFError, ValueError):  # dead, late, or talking nonsense
            self._bury(child)
            field = "image" if len(parts) > 1 else head["fields"][0]
            reason = f"the {field} is broken or takes too much to decode: the decoder gave up"
            raise Refused(field, "broken_image", reason) from None

    def _server(self) -> _Server:
        """This thread's own; a new one when it died since."""
        child: _Server | None = getattr(self._mine, "server", None)
        if child is not None and child.alive:
            return child
        if child is not None:
            self._bury(child)
        child = self._mine.server = _Server(self.module, self._budget)
        self._servers.add(child)
        return child

    def _bury(self, child: _Server) -> None:
        self._servers.discard(child)
        child.kill()


class _Server(ForkServer):
    """Used by one thread. RuntimeError when its children cannot decode."""

    def __init__(self, module: str, budget: Budget) -> None:
        super().__init__(module, json.dumps(asdict(budget)))
        try:
            self.ask(
                {"verb": "rehearse", "fields": []}, [], replace(budget, wall_seconds=START_SECONDS)
            )
        except (OSError, EOFError, ValueError):
            self.kill()
            raise RuntimeError("the process that decodes pictures does not start") from None

    def ask(self, head: Head, parts: list[bytes], budget: Budget) -> Message:
        """OSError, EOFError or ValueError when it died, took too long or speaks nonsense."""
        with self.child(budget.wall_seconds) as stream:
            send(stream, head, parts)
            return receive(stream, ANSWER_BYTES_PER_PIXEL * budget.pixels)


def _read_normalised(answer: Message) -> tuple[bytes, int, int]:
    _, (png,) = unless_refused(answer)
    return png, *_png_size(png)


def _read_kept(budget: Budget, answer: Message) -> Kept:
    head, (data,) = unless_refused(answer)
    return Kept(data, kind_of(data, "image"), *_said_size(head, budget))


def _read_reference(budget: Budget, most_pixels: int, answer: Message) -> Reference:
    head, (png,) = unless_refused(answer)
    width, height = _png_size(png)
    if not 1 <= width * height <= most_pixels:
        raise ValueError("more pixels than were asked for")
    return Reference(png, *_said_size(head, budget))


def _said_size(head: Head, budget: Budget) -> Size:
    match head:
        case {"size": [int(width), int(height)]} if min(width, height) >= 1:
            if width * height > budget.pixels or max(width, height) > budget.edge_pixels:
                raise ValueError("more pixels than are allowed")
            return width, height
    raise ValueError("a picture without its size")


def _read_canvas(size: Size, small_size: Size, cells: int | None, answer: Message) -> Canvas:
    _, (canvas, small, redraw) = unless_refused(answer)
    if (_png_size(canvas), _png_size(small), len(redraw)) != (size, small_size, cells or 0):
        raise ValueError("pictures of other sizes than were asked for")
    marked = None if cells is None else np.frombuffer(redraw, np.uint8).astype(np.bool_)
    return Canvas(canvas, small, marked)


def unless_refused(answer: Message) -> Message:
    match answer[0]:
        case {"refused": {"field": str(field), "code": str(code), "message": str(reason)}}:
            raise Refused(field, code, reason)
        case _:
            return answer


def _png_size(png: bytes) -> Size:
    """Read by hand: by now the child may be controlled by its input."""
    if len(png) < 24 or not png.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"):
        raise ValueError("not a PNG")
    width, height = struct.unpack(">II", png[16:24])
    return width, height
