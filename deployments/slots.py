"""Reserving decoder slots: the one file that knows Serve's `choose_replica` and its leak.

A reservation has no expiry in Serve: a dispatcher that is killed between reserving and dispatching
would keep the slot for ever. Ours are used within milliseconds, so `LeakedSlots` gives back every
reservation that a replica has held for `older_than_seconds`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import ray
from grpc import RpcError
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, ReplicaSelection

from deployments.own_replica import reserved_tokens
from deployments.replica_health import HEALTH, Sent
from dispatch.ports import CallFailed, Slot, StageUnavailable
from dispatch.silence import ReplicaSilent, unless_silent
from engine.render import LAST, RenderSpec, RenderUpdate

log = logging.getLogger("ray.serve")

AWAY = (RayActorError, RayServeException, RayError, RpcError, TimeoutError)
"""What a handle raises when a replica is lost, silent, or not there at all."""

END_SECONDS = 5.0
"""How long after its last update a stream may end, and the answer to a broadcast may take."""


def stage_unavailable(error: Exception, what: str) -> Exception:
    """StageUnavailable, unless the replica is well and its code raised: waiting would not help.
    The errors of dispatch.ports that a replica raises come without Ray's wrapping."""
    cause: object = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, CallFailed | StageUnavailable):
        return type(cause)(str(cause))
    return StageUnavailable(f"{what}: {error!r}") if isinstance(cause, AWAY) else error


class DecoderSlots:
    """The decoder replicas of the lane, through Serve's router."""

    def __init__(
        self,
        handle: DeploymentHandle,
        pass_timeout_seconds: float,
        reserve_timeout_seconds: float = 30.0,
    ) -> None:
        """pass_timeout_seconds: a pass that takes so long is given up; see dispatch.silence for a
        replica that is gone. reserve_timeout_seconds: how long to wait for room before asking
        again."""
        self._handle = handle.options(stream=True, method_name="render")
        self._pass_timeout_seconds = pass_timeout_seconds
        self._reserve_timeout_seconds = reserve_timeout_seconds

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[Slot]:
        """Wait for a replica with room and hold it; StageUnavailable when none answers."""
        key = object()
        context = self._handle.choose_replica(key)
        with HEALTH.sent(key) as sent:
            try:
                async with asyncio.timeout(self._reserve_timeout_seconds):
                    selection = await unless_silent(
                        context.__aenter__(), partial(HEALTH.lives, sent)
                    )
            except ReplicaSilent:
                HEALTH.is_silent(sent)
                raise StageUnavailable("no decoder slot: the replica is silent") from None
            except AWAY as error:
                raise StageUnavailable(f"no decoder slot: {error!r}") from error
        try:
            yield ReplicaSlot(self._handle, selection, sent, self._pass_timeout_seconds)
        finally:
            try:
                await context.__aexit__(None, None, None)
            except AWAY as error:
                log.info("the reserved replica is gone: %r", error)

    async def leave(self, render_ids: Sequence[str]) -> None:
        """One broadcast for all renders that are preempted together: no table says which replica
        has which."""
        try:
            heard = self._handle.broadcast("leave", list(render_ids))
            await heard.results_async(timeout_s=END_SECONDS, return_exceptions=True)
        except AWAY as error:
            raise StageUnavailable(f"no decoder to ask: {error!r}") from error


class ReplicaSlot:
    """One reserved slot; good for one render."""

    def __init__(
        self,
        handle: DeploymentHandle,
        selection: ReplicaSelection,
        sent: Sent,
        pass_timeout_seconds: float,
    ) -> None:
        self._handle = handle
        self._selection = selection
        self._sent = sent
        self.replica_id, self.node = selection.replica_id, selection.node_ip
        self._pass_timeout_seconds = pass_timeout_seconds

    async def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """Updates of the render; closing the generator cancels it on the replica."""
        stream = self._handle.dispatch(self._selection, spec)
        updates = aiter(stream)
        lives = partial(HEALTH.lives, self._sent)
        ended = False
        try:
            while True:
                try:
                    async with asyncio.timeout(self._pass_timeout_seconds):
                        update = await unless_silent(anext(updates), lives)
                except StopAsyncIteration:
                    ended = True
                    return
                if update.kind in LAST:
                    ended = await self._ends(updates)
                yield update
        except ReplicaSilent:
            HEALTH.is_silent(self._sent)
            raise StageUnavailable("the decoder replica is silent") from None
        except AWAY as error:
            ended = not isinstance(error, TimeoutError)
            raise stage_unavailable(error, "the decoder replica is lost") from error
        finally:
            if not ended:
                stream.cancel()

    async def _ends(self, updates: AsyncIterator[RenderUpdate]) -> bool:
        """After the last update: take in the end of the stream, much cheaper than cancelling
        a call that is over anyway."""
        try:
            async with asyncio.timeout(END_SECONDS):
                await anext(updates)
        except (StopAsyncIteration, *AWAY) as end:
            return not isinstance(end, TimeoutError)
        return False


class LeakedSlots:
    """Runs inside a decoder replica and frees reservations that no call came for."""

    def __init__(self, clock: Callable[[], float], older_than_seconds: float = 10.0) -> None:
        self._clock = clock
        self._older_than_seconds = older_than_seconds
        self._first_seen: dict[str, float] = {}

    def reclaim(self) -> int:
        """Free those overdue and return how many. Call it every few seconds."""
        now = self._clock()
        held = reserved_tokens()
        self._first_seen = {token: self._first_seen.get(token, now) for token in held}
        overdue = [
            t for t, seen in self._first_seen.items() if now - seen > self._older_than_seconds
        ]
        for token in overdue:
            # Through the actor itself: the semaphore behind it belongs to another event loop.
            ray.get_runtime_context().current_actor.release_slot.remote(token)
        if overdue:
            log.warning("freed %s decoder slots whose dispatcher is gone", len(overdue))
        return len(overdue)
