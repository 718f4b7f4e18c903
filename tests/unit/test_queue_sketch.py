"""Places in a queue without counting, against counting."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobs.policy.queue_sketch import END, EVERY, HEAD, Backlog, OrderedJobs, QueueSketch

Rows = list[tuple[float, int, float]]


def queue(jobs: int, seed: int) -> Rows:
    """A load: few different stamps, so that the order of arrival decides among equals."""
    draw = random.Random(seed)
    return sorted((draw.choice([1.0, 2.0, 5.5]), seq, draw.uniform(1, 9)) for seq in range(jobs))


def sketch(rows: Rows, seed: int) -> QueueSketch:
    draw = random.Random(seed)
    return QueueSketch(
        OrderedJobs.of(rows[:HEAD]),
        OrderedJobs.of(row for row in rows if draw.randrange(EVERY) == 0),
    )


@given(st.integers(0, HEAD - 1), st.integers(0, 9))
def test_a_short_queue_is_counted(jobs: int, seed: int) -> None:
    rows = queue(jobs, seed)
    known = sketch(rows, seed)
    seconds = [0.0, *accumulate(cost for _, _, cost in rows)]
    for rank, (vft, seq, _) in enumerate(rows):
        assert known.before((vft, seq)) == Backlog(rank, seconds[rank])
    assert known.whole() == Backlog(jobs, seconds[-1])


@given(st.integers(0, 50))
def test_the_head_of_a_long_queue_is_counted_and_the_rest_estimated(seed: int) -> None:
    rows = queue(8000, seed)
    known = sketch(rows, seed)
    for rank in range(0, HEAD, 37):
        assert known.before(rows[rank][:2]).jobs == rank
    previous = 0
    for rank in range(HEAD, 8000, 97):
        place = known.before(rows[rank][:2]).jobs
        assert abs(place - rank) <= 5 * 8 * (rank - HEAD + EVERY) ** 0.5, "five deviations"
        assert place >= previous, "who is further back is told so"
        previous = place
    whole = known.whole()
    assert abs(whole.jobs - 8000) <= 5 * 8 * 7500**0.5
    assert abs(whole.seconds - 8000 * 5.0) <= 8000 * 5.0 * 0.5


@given(st.integers(0, 20))
def test_a_watched_job_only_moves_forward(seed: int) -> None:
    """While others are claimed, with the same sample."""
    rows = queue(3000, seed)
    known = sketch(rows, seed)
    mine = rows[2500][:2]
    places = []
    for claimed in range(0, 2500, 50):
        left = rows[claimed:]
        now = QueueSketch(OrderedJobs.of(left[:HEAD]), known.sample)
        places.append(now.before(mine).jobs)
    # The head takes over from the sample, whose error is then gone: that much it may jump.
    assert all(b <= a + EVERY for a, b in pairwise(places))
    assert places[-1] == 50


def test_an_empty_queue() -> None:
    assert QueueSketch(OrderedJobs(), OrderedJobs()).before(END) == Backlog(0, 0.0)
