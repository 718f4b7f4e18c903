"""Asking several databases at the same time, and sharing one transaction in each. Knows no verb."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobs.job import Job
from jobs.ledger import LedgerUnavailable, Outcome, Submission
from jobs.request import ImageRequest
from jobs.settling import Finish
from jobs.shard import Shard
from jobs.sql_ledger import SqlLedger
from jobs.submitting import Submit

Question = Callable[[SqlLedger], Any]
Answers = Sequence[Any]
"""Of each question: what it returned, or the exception that it raised."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A write on its way: what to ask whom, and what the answers mean together."""

    questions: Sequence[tuple[int, Question]]
    join: Callable[[Answers], Any]


@dataclass(frozen=True, slots=True)
class Finishing:
    """A `finish_render`, of which a shard stores many at once."""

    job_id: str
    fence: int
    index: int
    outcome: Outcome

    def __call__(self, ledger: SqlLedger) -> Job:
        """Alone."""
        return self.on(ledger)()

    def on(self, ledger: SqlLedger) -> Finish:
        """As that ledger takes it among other calls."""
        return Finish(ledger, self.job_id, self.fence, self.index, self.outcome)


@dataclass(frozen=True, slots=True)
class Submitting:
    """A `submit`, of which a shard accepts many at once."""

    request: ImageRequest

    def __call__(self, ledger: SqlLedger) -> Submission:
        """Alone."""
        return self.on(ledger)()

    def on(self, ledger: SqlLedger) -> Submit:
        """As that ledger takes it among other calls."""
        return Submit(ledger, self.request)


class ShardAsking:
    """Callable from any thread."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._pool = ThreadPoolExecutor(2 * len(shards), thread_name_prefix="shard")
        self._planning = threading.local()  # inside `together`, on that thread

    def ask(self, questions: Sequence[tuple[int, Question]]) -> list[Any]:
        """Every answer or exception, in order."""
        if len(questions) == 1:
            return [outcome_of(self._shards[questions[0][0]], questions[0][1])]
        return list(self._pool.map(lambda q: outcome_of(self._shards[q[0]], q[1]), questions))

    def write(self, plan: Plan) -> Any:
        """Now, or as a part of what `together` has under way on this thread."""
        if getattr(self._planning, "on", False):
            return plan
        return plan.join(self.ask(plan.questions))

    def together(self, calls: Sequence[Callable[[], Any]], durable: bool) -> list[Any]:
        """Each call's result or exception. Calls that `write` share a transaction in each shard
        that they concern; the others are run as they are."""
        self._planning.on = True
        try:
            plans = [_called(call) for call in calls]
        finally:
            self._planning.on = False
        work: dict[int, list[tuple[int, int, Question]]] = {}
        answers: list[list[Any]] = []
        for number, plan in enumerate(plans):
            questions = plan.questions if isinstance(plan, Plan) else ()
            answers.append([None] * len(questions))
            for place, (shard, question) in enumerate(questions):
                work.setdefault(shard, []).append((number, place, question))
        asked = [
            (shard, partial(_in_one_transaction, [question for _, _, question in group], durable))
            for shard, group in work.items()
        ]
        for group, done in zip(work.values(), self.ask(asked), strict=True):
            for index, (number, place, _) in enumerate(group):
                answers[number][place] = done if isinstance(done, Exception) else done[index]
        return [
            _called(partial(plan.join, given)) if isinstance(plan, Plan) else plan
            for plan, given in zip(plans, answers, strict=True)
        ]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def outcome_of(shard: Shard, question: Question) -> Any:
    """What the shard answers, or the exception that it raises."""
    return _called(partial(shard.ask, question))


def only(answers: Answers) -> Any:
    """The one answer, or its exception, raised."""
    (answer,) = answers
    if isinstance(answer, Exception):
        raise answer
    return answer


def those_there(answers: Answers) -> list[Any]:
    """Without the shards that are away, as long as one is there. Any other error is raised."""
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, LedgerUnavailable):
            raise answer
    there = [answer for answer in answers if not isinstance(answer, Exception)]
    if answers and not there:
        raise answers[0]
    return there


def _called(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it belongs to the one who asked
        return error


def _in_one_transaction(
    questions: Sequence[Question], durable: bool, ledger: SqlLedger
) -> list[Any]:
    calls = [
        q.on(ledger) if isinstance(q, Finishing | Submitting) else partial(q, ledger)
        for q in questions
    ]
    return ledger.together(calls, durable=durable)
