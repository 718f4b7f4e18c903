"""The Ledger over several databases. A tenant lives in one of them, whole: its quota, its keys'
idempotency and its place in the fair queue stay in one transaction.

A job's id tells its tenant's virtual shard, so every verb knows whom to ask. Nothing is decided
here but that. A shard that is away makes only its tenants wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar, cast

from jobs.costs import ImageCost
from jobs.depth import merged
from jobs.files import UNLIMITED, FileRoom, StoredFile
from jobs.job import Job
from jobs.job_ids import shard_of, virtual_shard
from jobs.ledger import (
    Asking,
    Beat,
    Depth,
    Keys,
    LedgerUnavailable,
    Outcome,
    Outlook,
    Renewal,
    Standing,
    Submission,
)
from jobs.limit_levels import LimitLevel
from jobs.request import ImageRequest, Tenant
from jobs.retention import Batch, Retention, Step
from jobs.rotation import Rotation
from jobs.shard import Shard
from jobs.shard_asking import (
    Answers,
    Finishing,
    Plan,
    Question,
    ShardAsking,
    Submitting,
    only,
    outcome_of,
    those_there,
)
from jobs.shard_depths import ShardDepths
from jobs.sharded_keys import ShardedKeys
from jobs.sql_ledger import SqlLedger
from jobs.tiers import Tier

T = TypeVar("T")
log = logging.getLogger(__name__)


class ShardedLedger:
    """See Ledger. home: for each virtual shard, which of `shards` holds it. accounts: where the
    keys are. Safe to call from any thread."""

    def __init__(self, shards: Sequence[Shard], home: Sequence[int], accounts: Shard) -> None:
        self._shards = list(shards)
        self._home = home
        self._accounts = accounts
        self._keys = ShardedKeys(accounts)
        self._asking = ShardAsking(self._shards)
        self._rotation = Rotation(len(shards))
        self._depths = ShardDepths(shards)
        self._first_to_retire = 0
        self._tiers: Mapping[str, Tier] = {}

    @property
    def tiers(self) -> Mapping[str, Tier]:
        """What each tier promises. May be replaced at any time."""
        return self._tiers

    @tiers.setter
    def tiers(self, tiers: Mapping[str, Tier]) -> None:
        self._tiers = tiers
        for shard in self._shards:
            shard.promise(tiers)

    @property
    def accounts(self) -> Keys:
        """See Ledger."""
        return self._keys

    # -- whom to ask

    def _of_tenant(self, tenant: str) -> int:
        return self._home[virtual_shard(tenant)]

    def _of_job(self, job_id: str) -> int | None:
        """None for what is no id of ours."""
        try:
            return self._home[shard_of(job_id)]
        except (ValueError, IndexError):
            return None

    def _split(self, job_ids: Iterable[str]) -> dict[int, list[str]]:
        parts: dict[int, list[str]] = {}
        for job_id in job_ids:
            if (shard := self._of_job(job_id)) is not None:
                parts.setdefault(shard, []).append(job_id)
        return parts

    def _write_one(self, shard: int | None, question: Question) -> Any:
        if shard is None:
            return self._asking.write(Plan((), lambda _: None))
        return self._asking.write(Plan([(shard, question)], only))

    def together(
        self, calls: Sequence[Callable[[], T]], *, durable: bool = True
    ) -> list[T | Exception]:
        """See Ledger: ONE transaction in each shard that is concerned, all at the same time."""
        return self._asking.together(calls, durable)

    # -- verbs that may share a transaction

    def submit(self, request: ImageRequest) -> Submission:
        """See Ledger."""
        shard = self._of_tenant(request.tenant)
        return cast(Submission, self._write_one(shard, Submitting(request)))

    def finish_render(self, job_id: str, fence: int, index: int, outcome: Outcome) -> Job:
        """See Ledger."""
        done = self._write_one(self._of_job(job_id), Finishing(job_id, fence, index, outcome))
        return cast(Job, done)

    def release(self, job_id: str, fence: int, *, error: str | None = None) -> None:
        """See Ledger."""
        self._write_one(
            self._of_job(job_id), lambda ledger: ledger.release(job_id, fence, error=error)
        )

    def cancel(self, job_id: str) -> Job | None:
        """See Ledger."""
        cancelled = self._write_one(self._of_job(job_id), lambda ledger: ledger.cancel(job_id))
        return cast("Job | None", cancelled)

    def renew(self, beats: Sequence[Beat], lease_seconds: float) -> list[Renewal]:
        """See Ledger. While a shard is away its jobs count as held: they go on, and what comes of
        it is decided by their fence."""
        places: dict[int, list[int]] = {}
        for place, beat in enumerate(beats):
            if (shard := self._of_job(beat.job_id)) is not None:
                places.setdefault(shard, []).append(place)
        questions = [
            (shard, _renewing([beats[place] for place in mine], lease_seconds))
            for shard, mine in places.items()
        ]

        def join(answers: Answers) -> list[Renewal]:
            renewals = [Renewal(beat.job_id, held=True) for beat in beats]
            those_there(answers)
            for mine, answer in zip(places.values(), answers, strict=True):
                if not isinstance(answer, Exception):
                    for place, renewal in zip(mine, answer, strict=True):
                        renewals[place] = renewal
            return renewals

        return cast("list[Renewal]", self._asking.write(Plan(questions, join)))

    def add_file(self, file: StoredFile, room: FileRoom = UNLIMITED) -> StoredFile:
        """See Ledger."""
        shard = self._of_tenant(file.tenant)
        stored = self._write_one(shard, lambda ledger: ledger.add_file(file, room))
        return cast(StoredFile, stored)

    def drop_file(self, tenant: str, file_id: str) -> bool:
        """See Ledger."""
        shard = self._of_tenant(tenant)
        return cast(bool, self._write_one(shard, lambda ledger: ledger.drop_file(tenant, file_id)))

    def forget_files(self, files: Sequence[StoredFile]) -> None:
        """See Ledger."""
        parts: dict[int, list[StoredFile]] = {}
        for file in files:
            parts.setdefault(self._of_tenant(file.tenant), []).append(file)
        questions = [
            (shard, lambda ledger, mine=mine: ledger.forget_files(mine))
            for shard, mine in parts.items()
        ]
        self._asking.write(Plan(questions, those_there))

    def watch(self, job_ids: Sequence[str], grace_seconds: float) -> None:
        """See Ledger."""
        self._of_many(job_ids, lambda ledger, ids: ledger.watch(ids, grace_seconds))

    def answered(self, job_ids: Sequence[str]) -> None:
        """See Ledger."""
        self._of_many(job_ids, lambda ledger, ids: ledger.answered(ids))

    def _of_many(
        self, job_ids: Sequence[str], verb: Callable[[SqlLedger, list[str]], None]
    ) -> None:
        questions = [
            (shard, lambda ledger, ids=ids: verb(ledger, ids))
            for shard, ids in self._split(job_ids).items()
        ]
        self._asking.write(Plan(questions, those_there))

    # -- verbs of a transaction of their own

    def claim(self, lane: str, worker: str, limit: int, lease_seconds: float) -> list[Job]:
        """See Ledger. Shards take turns in proportion to what waits in them; what one has not, the
        next one may give."""
        turns = self._rotation.spread(limit, self._depths.waiting_seconds(lane))

        def claiming(count: int) -> Question:
            return lambda ledger: ledger.claim(lane, worker, count, lease_seconds)

        asked = [(shard, count) for shard, count in enumerate(turns) if count]
        answers = self._asking.ask([(shard, claiming(count)) for shard, count in asked])
        jobs = [job for answer in answers if not isinstance(answer, Exception) for job in answer]
        empty = {
            shard
            for (shard, count), answer in zip(asked, answers, strict=True)
            if isinstance(answer, Exception) or len(answer) < count
        }
        for shard in range(len(self._shards)):
            if len(jobs) < limit and shard not in empty:
                answers += self._asking.ask([(shard, claiming(limit - len(jobs)))])
                jobs += () if isinstance(answers[-1], Exception) else answers[-1]
        if not jobs:
            those_there(answers)
        for error in answers:
            if isinstance(error, Exception) and not isinstance(error, LedgerUnavailable):
                log.error("a shard could not be claimed from", exc_info=error)
        return jobs

    def make_way(self, asking: Asking) -> list[str]:
        """See Ledger, inside each shard."""
        waiting = asking.waiting
        parts = {
            shard: replace(asking, waiting={job_id: waiting[job_id] for job_id in ids})
            for shard, ids in self._split(list(waiting)).items()
        }
        nobody = replace(asking, waiting={})
        answers = self._ask_all(
            lambda shard: lambda ledger: ledger.make_way(parts.get(shard, nobody))
        )
        return [job_id for leaving in answers for job_id in leaving]

    def expire(self) -> int:
        """See Ledger."""
        return sum(self._ask_all(lambda _: lambda ledger: ledger.expire()))

    def retire(self, lane: str, step: Step, kept: Retention) -> Batch | None:
        """See Ledger: of the next shard that has something; none of them is always the first."""
        self._first_to_retire = (self._first_to_retire + 1) % len(self._shards)
        for number in range(self._first_to_retire, self._first_to_retire + len(self._shards)):
            shard = number % len(self._shards)
            with suppress(LedgerUnavailable):
                batch = self._shards[shard].ask(lambda ledger: ledger.retire(lane, step, kept))
                if batch is not None:
                    return replace(batch, shard=shard)
        return None

    def retired(self, lane: str, batch: Batch) -> None:
        """See Ledger."""
        self._write_one(batch.shard, lambda ledger: ledger.retired(lane, batch))

    def forget(self, job_ids: Sequence[str]) -> None:
        """See Ledger."""
        for shard, ids in self._split(job_ids).items():
            self._shards[shard].ask(lambda ledger, ids=ids: ledger.forget(ids))  # type: ignore[misc]

    def forget_tenant(self, tenant: str) -> None:
        """See Ledger."""
        for shard in {self._shards[self._of_tenant(tenant)], self._accounts}:
            shard.ask(lambda ledger: ledger.forget_tenant(tenant))

    def scrub(self) -> None:
        """See Ledger."""
        for shard in {*self._shards, self._accounts}:
            shard.ask(lambda ledger: ledger.scrub())

    # -- looking

    def _ask_all(self, question: Callable[[int], Question]) -> Answers:
        """The answers of those that are there; LedgerUnavailable when none is."""
        return those_there(self._asking.ask([(n, question(n)) for n in range(len(self._shards))]))

    def _read_one(self, job_id: str, question: Callable[[SqlLedger], T], unknown: T) -> T:
        shard = self._of_job(job_id)
        return unknown if shard is None else self._shards[shard].ask(question)

    def get(self, job_id: str) -> Job | None:
        """See Ledger."""
        return self._read_one(job_id, lambda ledger: ledger.get(job_id), None)

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """See Ledger. Without those of a shard that is away: `get` says so of each."""
        questions = [
            (shard, lambda ledger, ids=ids: ledger.get_many(ids))
            for shard, ids in self._split(job_ids).items()
        ]
        answers = self._asking.ask(questions)
        return [job for jobs in answers if not isinstance(jobs, Exception) for job in jobs]

    def recent(self, tenant: str, limit: int) -> list[Job]:
        """See Ledger."""
        shard = self._shards[self._of_tenant(tenant)]
        return shard.ask(lambda ledger: ledger.recent(tenant, limit))

    def children(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """See Ledger."""
        shard = self._shards[self._of_tenant(tenant)]
        return shard.ask(lambda ledger: ledger.children(tenant, job_id, limit))

    def ancestors(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """See Ledger."""
        shard = self._shards[self._of_tenant(tenant)]
        return shard.ask(lambda ledger: ledger.ancestors(tenant, job_id, limit))

    def file(self, tenant: str, file_id: str) -> StoredFile | None:
        """See Ledger."""
        shard = self._shards[self._of_tenant(tenant)]
        return shard.ask(lambda ledger: ledger.file(tenant, file_id))

    def files(self, tenant: str, limit: int, after: str | None = None) -> list[StoredFile]:
        """See Ledger."""
        shard = self._shards[self._of_tenant(tenant)]
        return shard.ask(lambda ledger: ledger.files(tenant, limit, after))

    def stale_files(self, limit: int, tenant: str | None = None) -> list[StoredFile]:
        """See Ledger. Expired ones of the shards that are there."""
        if tenant is not None:
            shard = self._shards[self._of_tenant(tenant)]
            return shard.ask(lambda ledger: ledger.stale_files(limit, tenant))
        stale = self._ask_all(lambda _: lambda ledger: ledger.stale_files(limit))
        return [file for files in stale for file in files]

    def position(self, job_id: str) -> int | None:
        """See Ledger: in its shard's queue."""
        return self._read_one(job_id, lambda ledger: ledger.position(job_id), None)

    def outlooks(self, job_ids: Sequence[str]) -> dict[str, Outlook]:
        """See Ledger: of their shards' queues, at the pace at which those are served."""
        questions = [
            (shard, lambda ledger, ids=ids: ledger.outlooks(ids))
            for shard, ids in self._split(job_ids).items()
        ]
        answers = [
            found for found in self._asking.ask(questions) if not isinstance(found, Exception)
        ]
        return {job_id: outlook for found in answers for job_id, outlook in found.items()}

    def standing(self, tenant: Tenant, lane: str) -> Standing:
        """See Ledger."""
        shard = self._shards[self._of_tenant(tenant.id)]
        return shard.ask(lambda ledger: ledger.standing(tenant, lane))

    def depth(self, lane: str) -> Depth:
        """See Ledger: of the shards that are there."""
        return merged(self._ask_all(lambda _: lambda ledger: ledger.depth(lane)))

    def learn(self, costs: Sequence[ImageCost]) -> None:
        """See Ledger: beside the accounts."""
        self._accounts.ask(lambda ledger: ledger.learn(costs))

    def costs(self, model: str) -> list[ImageCost]:
        """See Ledger."""
        return self._accounts.ask(lambda ledger: ledger.costs(model))

    def limit_level(self, lane: str) -> tuple[LimitLevel, float]:
        """See Ledger. Beside the accounts, one for all shards."""
        return self._accounts.ask(lambda ledger: ledger.limit_level(lane))

    def move_limits(self, lane: str, before: LimitLevel, after: LimitLevel) -> bool:
        """See Ledger."""
        return self._accounts.ask(lambda ledger: ledger.move_limits(lane, before, after))

    def version(self) -> int:
        """See Ledger: of all shards; one that goes away or comes back counts as news."""
        versions = [outcome_of(shard, SqlLedger.version) for shard in self._shards]
        return hash(tuple(None if isinstance(v, Exception) else v for v in versions))

    def close(self) -> None:
        """See Ledger."""
        self._depths.close()
        self._asking.close()
        for shard in {*self._shards, self._accounts}:
            shard.close()


def _renewing(beats: Sequence[Beat], lease_seconds: float) -> Question:
    return lambda ledger: ledger.renew(beats, lease_seconds)
