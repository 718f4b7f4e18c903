"""Which replicas answer this process. Ray declares a lost node dead after a minute by default, and
until then Serve's routers choose its replicas; what is silent here is left out until it answers.

One of a process: routers of all handles tell it of their replicas, and ask it whom to leave out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

log = logging.getLogger("ray.serve")

Replica = Any
"""Serve's RunningReplica."""
R = TypeVar("R")
ANSWER_SECONDS = 2.0
ASK_SECONDS = 2.0
"""Between two questions to a silent one."""


class Sent:
    """One call on its way; `replica` has it, as soon as one was chosen."""

    replica: Replica | None = None


class ReplicaHealth:
    """Of those that this process calls."""

    def __init__(self) -> None:
        self._routers: WeakKeyDictionary[object, dict[Any, Replica]] = WeakKeyDictionary()
        self._silent: dict[Any, asyncio.Task[None]] = {}
        self._asked: dict[Any, asyncio.Task[None]] = {}
        self._sent: dict[int, Sent] = {}

    # Told by routers

    def know(self, router: object, replicas: Collection[Replica]) -> None:
        """These are all that it chooses from."""
        self._routers[router] = {replica.replica_id: replica for replica in replicas}

    def chosen(self, arguments: Collection[object], replica: Replica) -> None:
        """For the call with these arguments, or the reservation."""
        for argument in arguments:
            if (sent := self._sent.get(id(argument))) is not None:
                sent.replica = replica

    def answering(self, replica_ids: set[R]) -> set[R]:
        """Without the silent ones; all of them, if none would be left."""
        if not self._silent:
            return replica_ids
        return replica_ids - self._silent.keys() or replica_ids

    def is_left_out(self, replica_id: object) -> bool:
        """Whether it is silent."""
        return replica_id in self._silent

    # Asked by callers

    @contextmanager
    def sent(self, argument: object) -> Iterator[Sent]:
        """Around a call with this argument, or a reservation: the replica that gets it."""
        self._sent[id(argument)] = sent = Sent()
        try:
            yield sent
        finally:
            self._sent.pop(id(argument), None)

    async def lives(self, sent: Sent) -> bool:
        """Whether the replica answers; True while none was chosen. One that does not has the others
        on its machine asked, so that what is sent next does not find out one by one."""
        replica = sent.replica
        if replica is None:
            return True
        answers = replica.replica_id not in self._silent and await _answers(replica)
        if not answers:
            self._ask_beside(replica)
        return answers

    def is_silent(self, sent: Sent) -> None:
        """It was given up."""
        if sent.replica is not None:
            self._leave_out(sent.replica)
            self._ask_beside(sent.replica)

    def _ask_beside(self, replica: Replica) -> None:
        known = {one.replica_id: one for one in self._known() if one.node_id == replica.node_id}
        for name in known.keys() - self._silent.keys() - self._asked.keys() - {replica.replica_id}:
            self._asked[name] = asyncio.create_task(self._look(known[name]))

    async def _look(self, replica: Replica) -> None:
        try:
            if not await _answers(replica):
                self._leave_out(replica)
        finally:
            del self._asked[replica.replica_id]

    def _leave_out(self, replica: Replica) -> None:
        if replica.replica_id not in self._silent:
            log.warning("%s does not answer, and is left out", replica.replica_id)
            self._silent[replica.replica_id] = asyncio.create_task(self._wait_for(replica))

    async def _wait_for(self, replica: Replica) -> None:
        """Until it answers, or Serve has it no more."""
        try:
            while self._is_known(replica) and not await _answers(replica):  # noqa: ASYNC110
                await asyncio.sleep(ASK_SECONDS)
        finally:
            del self._silent[replica.replica_id]
        log.info("%s is left out no more", replica.replica_id)

    def _known(self) -> list[Replica]:
        return [replica for known in list(self._routers.values()) for replica in known.values()]

    def _is_known(self, replica: Replica) -> bool:
        return any(replica.replica_id in known for known in list(self._routers.values()))


async def _answers(replica: Replica) -> bool:
    """Its queue's length is answered on a thread of its own, whatever its own code does."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await replica.get_queue_len(deadline_s=ANSWER_SECONDS)
    except Exception:  # noqa: BLE001 - Ray raises many, and all mean the same here
        return False
    return True


HEALTH = ReplicaHealth()
