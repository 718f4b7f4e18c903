"""What a dispatcher needs from the rest of the world, as protocols without any technology."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Protocol

from engine.policy import Look
from engine.prompt_encoder import Embeddings, EncodedPrompt, PromptText
from engine.render import Pixels, RenderSpec, RenderUpdate, Source
from engine.verdict import Verdict
from jobs.request import ImageRequest


class StageUnavailable(Exception):
    """A stage (encoder, classifier, decoder, store) is away for now; the work waits."""


class CallLost(StageUnavailable):
    """The stage died with this call, or was silent for too long: because of it, or of another one,
    or of neither. See trials.py."""


class CallFailed(Exception):
    """This very call ends or hangs the stage, which is well for all other calls: another replica
    would fail in the same way, so it counts as an attempt."""


class SourceGone(Exception):
    """What an edit goes on from is not there, or cannot be used; trying again cannot help."""


@contextmanager
def leaving_is_away() -> Iterator[None]:
    """Around calls to a stage: a replica on its way out cancels what it was asked, and that comes
    as CancelledError although the caller was not cancelled. Then it is StageUnavailable."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling() > 0:
            raise
        raise StageUnavailable("the replica that was asked is leaving") from None


class Slot(Protocol):
    """Room on one decoder replica, held until its reservation is left."""

    @property
    def replica_id(self) -> str:
        """The same for every slot of that replica."""

    @property
    def node(self) -> str:
        """The address of the machine that it is on; empty where there is one."""

    def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """Updates of one render; closing the generator aborts it. Raises StageUnavailable when the
        replica is lost or silent for too long."""


class Decoders(Protocol):
    """The decoder replicas of the lane."""

    def reserve(self) -> AbstractAsyncContextManager[Slot]:
        """Wait until a replica has room, then hold it. Leaving without a render gives it back.
        Raises StageUnavailable when there is no replica to wait for."""

    async def leave(self, render_ids: Sequence[str]) -> None:
        """Ask renders to leave their slots at the next pass boundary: their last update is `left`,
        a `pass` after which nothing comes. Raises StageUnavailable."""


class Encoder(Protocol):
    """The prompt encoder."""

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """What decoders and the prompt screen read. Raises StageUnavailable, CallLost,
        CallFailed."""


class Classifier(Protocol):
    """The safety classifier."""

    async def screen_prompt(self, words: PromptText, embeddings: Embeddings, look: Look) -> Verdict:
        """A verdict on the words; the negative ones have a stage of their own. Raises
        StageUnavailable, CallLost, CallFailed."""

    async def screen_image(self, pixels: Pixels, look: Look) -> Verdict:
        """A verdict on a picture. Raises StageUnavailable, CallLost,
        CallFailed."""


class Postprocessor(Protocol):
    """Turns raw pixels into the file that was asked for, off the event loop."""

    async def source(self, request: ImageRequest) -> Source:
        """What that edit goes on from. Raises SourceGone, StageUnavailable, CallFailed."""

    async def references(self, request: ImageRequest) -> tuple[Pixels, ...]:
        """What that edit looks at. Raises SourceGone, StageUnavailable, CallFailed."""

    async def blend(self, pixels: Pixels, request: ImageRequest) -> Pixels:
        """What was drawn for an edit, at the request's size, laid under the canvas: outside of the
        mask exactly what came in. Raises SourceGone, StageUnavailable, CallFailed."""

    async def encode(
        self, pixels: Pixels, request: ImageRequest, *, preview: bool = False
    ) -> bytes:
        """Resized to the request's size, in its format; a preview by Pillow alone. Raises
        StageUnavailable, CallFailed."""

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """Into the blob store. Raises StageUnavailable when it cannot be written."""

    async def get(self, key: str) -> bytes | None:
        """From there; None when there is nothing. Raises StageUnavailable."""

    async def delete(self, key: str) -> None:
        """From there; no error when there is nothing. Raises StageUnavailable."""
