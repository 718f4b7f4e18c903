"""Whose fault it is that a stage failed: the stage's, this call's, or that of another call.

A stage that is away (StageUnavailable) is the fault of no call: the work waits. A call that the
stage itself names (CallFailed) is at fault. One that was lost with others (CallLost) may be
innocent: it makes its job a suspect, and suspects call one at a time. One that is lost again, and
no other with it, is at fault if the stage answers a call that is known to be good. See
docs/decisions/0047.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

from dispatch.ports import CallFailed, CallLost, SourceGone, StageUnavailable, leaving_is_away
from jobs.policy.settling import ALSO_ALONE

log = logging.getLogger(__name__)
T = TypeVar("T")
ALONE_SECONDS = 1.0
"""So long nothing else begins beside a suspect: what dies of a call mostly does so soon."""
_TOGETHER_SECONDS = 0.05  # within which a caller hears of all calls that were lost together
_SAID = 500  # characters of what a stage says: it is kept with the job
UNACCEPTED = 5
"""Decoders that were lost in a row before they accepted a render."""
MOST_EXCUSED = 5
"""Losses of one render that another one may explain, over its whole life in a dispatcher: poison
ends so much later at most."""


async def call(stage: str, answer: Awaitable[T], limit_seconds: float) -> T:
    """One call to a stage. Raises SourceGone, StageUnavailable, CallLost or CallFailed, the latter
    also for what else the stage raises; all of them name the stage."""
    try:
        with leaving_is_away():
            async with asyncio.timeout(limit_seconds):
                return await answer
    except SourceGone:
        raise
    except TimeoutError:
        raise CallLost(f"{stage}: no answer within {limit_seconds:g} s") from None
    except (StageUnavailable, CallFailed) as error:
        raise type(error)(f"{stage}: {str(error)[:_SAID]}") from None
    except Exception as error:
        log.exception("%s failed", stage)
        raise CallFailed(f"{stage}: {repr(error)[:_SAID]}") from None


class Trials:
    """Of one dispatcher. `probe` calls the stages with what is known to be good. Beside a suspect
    nothing else begins, for a moment; what was lost beside it all the same proves nothing."""

    def __init__(self, probe: Callable[[], Awaitable[object]]) -> None:
        self._probe = probe
        self._turns = Turns()
        self._lost = 0
        self._others = 0
        self._open = asyncio.Event()
        self._open.set()
        self._none_left = asyncio.Event()

    async def run(self, tenant: str, suspect: bool, work: Callable[[], Awaitable[T]]) -> T:
        """The calls of a job. Raises SourceGone, StageUnavailable, CallFailed; CallLost only for
        one that was no suspect yet."""
        if suspect:
            return await self._alone(tenant, work)
        await self._open.wait()
        self._others += 1
        try:
            return await work()
        except CallLost:
            self._lost += 1
            raise
        finally:
            self._others -= 1
            if not self._others:
                self._none_left.set()

    async def _alone(self, tenant: str, work: Callable[[], Awaitable[T]]) -> T:
        async with self._turns.of(tenant):
            with self._closed():
                await self._others_end()
                lost_before = self._lost
                try:
                    return await work()
                except CallLost as error:
                    lost = error
            await asyncio.sleep(_TOGETHER_SECONDS)
            await self._must_be_well(lost)
            if self._lost > lost_before:
                raise StageUnavailable(f"{lost}, and others with it")
            raise CallFailed(f"{lost}{ALSO_ALONE}")

    @contextmanager
    def _closed(self) -> Iterator[None]:
        self._open.clear()
        opening = asyncio.get_running_loop().call_later(ALONE_SECONDS, self._open.set)
        try:
            yield
        finally:
            opening.cancel()
            self._open.set()

    async def _others_end(self) -> None:
        """Those that are under way; the slowest are not waited for."""
        if self._others:
            self._none_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(ALONE_SECONDS / 2):
                    await self._none_left.wait()

    async def _must_be_well(self, lost: CallLost) -> None:
        try:
            await self._probe()
        except (StageUnavailable, CallFailed) as error:
            raise StageUnavailable(f"{lost}; and for a good call {error}") from None


class Losses:
    """The same for one job's preparation or one render. A render without progress that a decoder
    was lost with becomes a suspect, and makes its next first pass alone in a decoder, from
    `accepted` on: what is lost then is at fault. A decoder that never accepts it may have been dead
    already; several in a row, while renders are accepted elsewhere, are a loss, too. A suspect that
    was accepted while one that decoders were lost with before was on its way there is excused, a
    few times: it is not known which of the two ended the decoder."""

    def __init__(self, suspect: bool = False) -> None:
        self.suspect = suspect
        self.unaccepted = 0
        self._excused = 0
        self._accepted_elsewhere = 0

    def accepted(self) -> None:
        """A decoder has accepted the render."""
        self.unaccepted = 0

    def progressed(self) -> None:
        """It did a pass for the first time."""
        self.suspect = False

    def suspected(self) -> bool:
        """It was lost without progress; returns whether it was a suspect before."""
        before, self.suspect = self.suspect, True
        return before

    def lost(self, accepted: bool, accepted_elsewhere: int, killer_beside: bool) -> bool:
        """A decoder was lost with it, before a pass. accepted: by that decoder. accepted_elsewhere:
        renders so far, by any. killer_beside: another one, not accepted, may have ended it. Returns
        whether this very render ended the decoder."""
        if not accepted and not self._unaccepted_too_often(accepted_elsewhere):
            return False
        if accepted and self.suspect and killer_beside and self._excused < MOST_EXCUSED:
            self._excused += 1
            return False
        return self.suspected()

    def _unaccepted_too_often(self, accepted_elsewhere: int) -> bool:
        if accepted_elsewhere > self._accepted_elsewhere or self.unaccepted == 0:
            self.unaccepted += 1
        self._accepted_elsewhere = accepted_elsewhere
        if self.unaccepted < UNACCEPTED:
            return False
        self.unaccepted = 0
        return True


class Turns:
    """One at a time; tenants that wait take turns, however much one of them asks for."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[None]:
        """Wait for the tenant's turn, and keep it inside the block."""
        if self._busy:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(tenant, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                raise
        self._busy = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """To the tenant that has waited longest since its last turn; it stays busy meanwhile."""
        while self._waiting:
            tenant, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[tenant] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False
