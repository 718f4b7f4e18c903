"""Who takes the next pass: slots, order of rows, turns of keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.scheduler import Scheduler


@dataclass(eq=False)
class Row:
    name: str
    batch_key: str = "k"
    leaving: bool = False


def scheduler_of(*rows: Row, slots: int = 8) -> Scheduler[Row]:
    scheduler: Scheduler[Row] = Scheduler(slots)
    for row in rows:
        scheduler.join(row)
    return scheduler


def one_pass(scheduler: Scheduler[Row]) -> str:
    batch = scheduler.schedule()
    scheduler.settle(batch)
    return "".join(row.name for row in batch)


def test_idle_without_renders() -> None:
    assert scheduler_of().schedule() == ()


def test_it_needs_a_slot() -> None:
    with pytest.raises(ValueError, match="slots_max"):
        Scheduler(0)


def test_a_joiner_takes_its_slot_at_once_and_rides_from_the_next_boundary() -> None:
    a, b = Row("a"), Row("b")
    scheduler = scheduler_of(a, slots=2)
    batch = scheduler.schedule()
    scheduler.join(b)
    assert (batch, scheduler.free_slots) == ((a,), 0)
    scheduler.settle(batch)
    assert one_pass(scheduler) == "ab"


def test_the_slot_of_one_who_leaves_is_promised_for_the_next_boundary() -> None:
    a, b, c = Row("a"), Row("b"), Row("c")
    scheduler = scheduler_of(a, b, slots=2)
    batch = scheduler.schedule()
    assert scheduler.free_slots == 0
    a.leaving = True
    assert scheduler.free_slots == 1, "though its row is still in the pass"
    scheduler.join(c)
    assert scheduler.free_slots == 0
    scheduler.settle(batch)
    assert one_pass(scheduler) == "bc", "nobody waits a pass longer than needed"


def test_who_leaves_before_its_first_pass_never_rides() -> None:
    a, b = Row("a"), Row("b")
    scheduler = scheduler_of(a, b)
    a.leaving = True
    assert one_pass(scheduler) == "b"


def test_rows_keep_the_order_in_which_they_joined() -> None:
    rows = [Row(name) for name in "abcd"]
    scheduler = scheduler_of(*rows)
    assert one_pass(scheduler) == "abcd"
    rows[1].leaving = True
    scheduler.join(Row("e"))
    assert one_pass(scheduler) == "acde"


def test_whoever_is_promised_beyond_the_slots_waits_for_one() -> None:
    a, b, c = Row("a"), Row("b"), Row("c")
    scheduler = scheduler_of(a, b, c, slots=2)
    assert scheduler.free_slots == 0
    assert one_pass(scheduler) == "ab"
    b.leaving = True
    assert one_pass(scheduler) == "ac"


def test_keys_take_turns_however_many_rows_each_has() -> None:
    large = [Row(name, "big") for name in "abc"]
    scheduler = scheduler_of(*large, Row("x", "small"))
    assert [one_pass(scheduler) for _ in range(4)] == ["abc", "x", "abc", "x"]


def test_a_new_key_queues_behind_those_that_wait_already() -> None:
    scheduler = scheduler_of(Row("a", "1"), Row("b", "2"), Row("c", "3"))
    assert [one_pass(scheduler) for _ in range(2)] == ["a", "b"]
    scheduler.join(Row("d", "4"))
    assert [one_pass(scheduler) for _ in range(4)] == ["c", "a", "b", "d"]


@given(st.lists(st.tuples(st.sampled_from(["stay", "leave", "join"]), st.integers(0, 3))))
def test_no_key_starves_and_no_slot_is_shared(events: list[tuple[str, int]]) -> None:
    """Whatever joins and leaves, a key with a seated row rides within as many passes as there
    were keys in the meantime, and never do more rows ride than there are slots."""
    scheduler = scheduler_of(slots=4)
    waited: Counter[str] = Counter()
    for number, (event, key) in enumerate(events):
        if event == "join" and scheduler.free_slots:
            scheduler.join(Row(str(number), str(key)))
        elif event == "leave" and scheduler.running:
            scheduler.running[key % len(scheduler.running)].leaving = True
        batch = scheduler.schedule()
        assert len(scheduler.running) <= 4
        assert len({row.batch_key for row in batch}) <= 1
        seated = {row.batch_key for row in scheduler.running}
        riding = {row.batch_key for row in batch}
        waited = Counter({key: waited[key] + 1 for key in seated - riding})
        assert max(waited.values(), default=0) <= 3
        scheduler.settle(batch)
