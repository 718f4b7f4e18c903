"""Decoders as processes of their own without Ray: a real engine of the paced family behind a unix
socket, one connection a render; closing it is the abort. And the port that dispatchers use."""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from dispatch.ports import StageUnavailable
from engine.decoder import DecodeState
from engine.decoders.paced import PacedDecoder
from engine.render import LAST, Pixels, RenderSpec, RenderUpdate
from engine.streams import RenderStreams
from scripts.chaos.poison import EXIT_CODE, kind_of, marked, read_prompt
from scripts.chaos.world import POISON, World

SILENT_SECONDS = 3.0


class CountedDecoder(PacedDecoder):
    """Writes down every pass that it has made, and cannot draw a poisonous seed. Prompts that are
    poison to it end or hang it."""

    def __init__(self, pass_ms: float, passes_folder: Path) -> None:
        super().__init__(pass_ms=pass_ms, per_row_ms=0.0, passes_folder=str(passes_folder))

    def step(self, batch: Sequence[DecodeState]) -> None:
        """See Decoder."""
        if any(render.spec.seed % POISON == 0 for render in batch):
            raise ArithmeticError("the pass broke")
        for render in batch:
            _suffer(kind_of(read_prompt(render.spec.conditioning), "decoder"))
        super().step(batch)

    def finish(self, render: DecodeState) -> Pixels:
        """See Decoder."""
        pixels = super().finish(render)
        return marked(pixels, kind_of(read_prompt(render.spec.conditioning), "after"))


def _suffer(kind: str | None) -> None:
    match kind:
        case "raises" | "fails":
            raise ArithmeticError("it broke")
        case "dies":
            os._exit(EXIT_CODE)
        case "hangs":
            time.sleep(3600.0)


def serve(world: World, number: int) -> None:
    """One decoder until it is killed."""
    world.speak()
    world.sockets[number].unlink(missing_ok=True)
    asyncio.run(_decode(world, world.sockets[number]))


async def _decode(world: World, path: Path) -> None:
    await _Decoding(world).run(path)


class _Decoding:
    """The process of one decoder."""

    def __init__(self, world: World) -> None:
        decoder = CountedDecoder(world.pass_ms, world.folder / "passes")
        self._streams = RenderStreams(
            decoder, world.slots, full_wait_seconds=0.0, update_seconds=0.0
        )

    async def run(self, path: Path) -> None:
        watch = asyncio.create_task(self._watch())
        async with await asyncio.start_unix_server(self._render, path) as server:
            await server.serve_forever()
        watch.cancel()

    async def _watch(self) -> None:
        """As a health check: a decoder that hangs is replaced."""
        while True:
            await asyncio.sleep(0.2)
            if self._streams.engine.stuck_seconds > 2 * SILENT_SECONDS:
                os._exit(EXIT_CODE)

    async def _render(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            spec: RenderSpec = await _receive(reader)
            tasks = {
                asyncio.create_task(self._hear(spec.render_id, reader)),
                asyncio.create_task(self._send_updates(spec, writer)),
            }
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()

    async def _hear(self, render_id: str, reader: asyncio.StreamReader) -> None:
        """Any byte means that the render shall leave; the end, that it is not wanted any more."""
        while await reader.read(1):
            self._streams.leave([render_id])

    async def _send_updates(self, spec: RenderSpec, writer: asyncio.StreamWriter) -> None:
        async with aclosing(self._streams.render(spec)) as updates:
            async for update in updates:
                _send(writer, update)
                await writer.drain()


class SocketDecoders:
    """See dispatch.ports.Decoders: never more renders on a decoder than it has slots, as far as
    this dispatcher knows; the decoder itself says `full` where others were quicker."""

    def __init__(self, paths: Sequence[Path], slots: int) -> None:
        self._free = dict.fromkeys(paths, slots)
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[SocketSlot]:
        """See Decoders."""
        async with self._changed:
            await self._changed.wait_for(lambda: max(self._free.values()) > 0)
            path = max(self._free, key=self._free.__getitem__)
            self._free[path] -= 1
        try:
            yield SocketSlot(path, self._writers)
        finally:
            async with self._changed:
                self._free[path] += 1
                self._changed.notify_all()

    async def leave(self, render_ids: Sequence[str]) -> None:
        """See Decoders."""
        for render_id in render_ids:
            if (writer := self._writers.get(render_id)) is not None:
                writer.write(b"x")


class SocketSlot:
    """See dispatch.ports.Slot. writers: where each render under way is, by its id."""

    def __init__(self, path: Path, writers: dict[str, asyncio.StreamWriter]) -> None:
        self._path = path
        self.replica_id, self.node = str(path), ""
        self._writers = writers

    async def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """See Slot."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError as error:
            await asyncio.sleep(0.1)  # it is being started again
            raise StageUnavailable(f"no decoder at {self._path.name}: {error}") from error
        self._writers[spec.render_id] = writer
        try:
            _send(writer, spec)
            while True:
                async with asyncio.timeout(SILENT_SECONDS):
                    update = await _receive(reader)
                yield update
                if update.kind in LAST:
                    return
        except (OSError, EOFError, TimeoutError) as error:
            raise StageUnavailable(f"{self._path.name} is lost: {error!r}") from error
        finally:
            del self._writers[spec.render_id]
            writer.close()


def _send(writer: asyncio.StreamWriter, what: object) -> None:
    data = pickle.dumps(what)
    writer.write(struct.pack("<I", len(data)) + data)


async def _receive(reader: asyncio.StreamReader) -> Any:
    (size,) = struct.unpack("<I", await reader.readexactly(4))
    return pickle.loads(await reader.readexactly(size))
