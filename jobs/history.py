"""What a queue looked like over time: readings of its load, and what its decoders scaled by.

Readings are kept at two resolutions. Each keeps, of every step, the reading with the most work, so
that a short rush is seen in a long window, too. Of SqlLedger: functions inside the caller's
transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Self

from sqlalchemy import Connection, text

from jobs.limit_levels import LimitChange, load_changes_since

KEPT_SECONDS = {10: 6 * 3600, 300: 7 * 86400}
"""How long a reading of each step, in seconds, is kept: some 4,200 rows a queue in all."""
FINEST_SECONDS = min(KEPT_SECONDS)
DECISIONS_KEPT = 2000
"""Of a queue. The older ones are deleted."""

_KNOWN = text("""select 1 from load_samples
    where step = :step and bucket = :bucket and queue = :queue""")
_KEEP = text("""insert into load_samples (step, bucket, queue, work_seconds, said)
    values (:step, :bucket, :queue, :work_seconds, :said)
    on conflict (step, bucket, queue) do update
        set work_seconds = excluded.work_seconds, said = excluded.said
        where load_samples.work_seconds < excluded.work_seconds""")
_PRUNE = text("delete from load_samples where step = :step and bucket < :oldest")
_SAMPLES = text("""select said from load_samples
    where step = :step and bucket between :oldest and :newest and queue = :queue
    order by bucket""")
_DECIDED = text("""insert into scaling_changes (queue, at, from_replicas, to_replicas, reason)
    values (:queue, :at, :from_replicas, :to_replicas, :reason) on conflict do nothing""")
_PRUNE_DECISIONS = text("""delete from scaling_changes where queue = :queue and at <=
    (select at from scaling_changes where queue = :queue order by at desc limit 1 offset :kept)""")
_DECISIONS = text("""select at, from_replicas, to_replicas, reason from scaling_changes
    where queue = :queue and at >= :since order by at desc limit :limit""")


@dataclass(frozen=True, slots=True)
class DecoderCounts:
    """The decoder replicas of a model; None is unknown."""

    running: int | None = None
    """That draw."""
    starting: int | None = None
    """That do not draw yet."""


@dataclass(frozen=True, slots=True)
class LoadSample:
    """A queue at one moment. Work is in GPU-seconds, rates in GPU-seconds a second; None is
    unknown."""

    at: float
    """On the ledger's clock."""
    waiting_jobs: Mapping[str, int]
    """By tier, with those of tenants at their limit."""
    waiting_seconds: float
    running_seconds: float
    """Left of what dispatchers hold."""
    arrival_rate: float
    render_rate: float | None
    drain_seconds: float | None
    running: int | None = None
    """Decoder replicas that draw."""
    starting: int | None = None
    """Decoder replicas that do not draw yet."""

    @property
    def work_seconds(self) -> float:
        """All that is ahead."""
        return self.waiting_seconds + self.running_seconds

    @classmethod
    def of_json(cls, said: str) -> Self | None:
        """As it was stored, without the fields of newer versions. None: one that lacks some."""
        try:
            return cls(**{key: one for key, one in json.loads(said).items() if key in _FIELDS})
        except TypeError:
            return None


_FIELDS = frozenset(one.name for one in fields(LoadSample))


@dataclass(frozen=True, slots=True)
class ScalingChange:
    """What the scaling policy of a queue's decoders decided; the same count twice: it holds, and
    why. at: seconds since the epoch."""

    at: float
    from_replicas: int
    to_replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """Of one queue, oldest first."""

    read_at: float
    samples: Sequence[LoadSample]
    scaling: Sequence[ScalingChange]
    limits: Sequence[LimitChange]


def is_sampled(connection: Connection, queue: str, at: float) -> bool:
    """Whether the finest step has a reading of that time."""
    step = FINEST_SECONDS
    where = {"step": step, "bucket": int(at // step), "queue": queue}
    return connection.execute(_KNOWN, where).first() is not None


def store_sample(connection: Connection, queue: str, sample: LoadSample) -> None:
    """At every resolution; what is too old goes, whatever queue it is of."""
    kept = {
        "queue": queue,
        "work_seconds": sample.work_seconds,
        "said": json.dumps(asdict(sample), sort_keys=True),
    }
    for step, seconds in KEPT_SECONDS.items():
        connection.execute(_KEEP, {**kept, "step": step, "bucket": int(sample.at // step)})
        connection.execute(_PRUNE, {"step": step, "oldest": int((sample.at - seconds) // step)})


def store_decisions(connection: Connection, queue: str, decided: Iterable[ScalingChange]) -> None:
    """Add them; the oldest beyond DECISIONS_KEPT go."""
    for one in decided:
        connection.execute(_DECIDED, {"queue": queue, **asdict(one)})
    connection.execute(_PRUNE_DECISIONS, {"queue": queue, "kept": DECISIONS_KEPT})


def load_history(
    connection: Connection, queue: str, window_seconds: float, most: int, now: float
) -> QueueHistory:
    """See LoadHistory.history."""
    step = min(s for s, kept in KEPT_SECONDS.items() if window_seconds <= kept or s == _COARSEST)
    since = now - window_seconds
    where = {"queue": queue, "step": step, "oldest": int(since // step), "newest": int(now // step)}
    rows = connection.execute(_SAMPLES, where)
    samples = [sample for row in rows if (sample := LoadSample.of_json(row.said)) is not None]
    events = {"queue": queue, "since": since, "limit": most}
    scaling = [ScalingChange(*row) for row in connection.execute(_DECISIONS, events)]
    limits = load_changes_since(connection, queue, since, most)
    return QueueHistory(now, thinned(samples, window_seconds / most), scaling[::-1], limits)


_COARSEST = max(KEPT_SECONDS)


def thinned(samples: Iterable[LoadSample], seconds: float) -> list[LoadSample]:
    """Of so many seconds each the reading with the most work."""
    kept: dict[int, LoadSample] = {}
    for sample in samples:
        known = kept.setdefault(int(sample.at // seconds), sample)
        if sample.work_seconds > known.work_seconds:
            kept[int(sample.at // seconds)] = sample
    return list(kept.values())
