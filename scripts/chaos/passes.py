"""How many passes were drawn twice, from the decoders' own records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


def redone(passes: Iterable[tuple[float, str, int]]) -> list[int]:
    """Of every trip that went on where an earlier one of the same image had been cut off: how many
    passes it repeated. passes: (time, job/index/fence.trip, pass) of every pass that was made."""
    trips: dict[str, dict[str, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
    for at, render_id, pass_no in passes:
        image, _, trip = render_id.rpartition("/")
        trips[image][trip].append((at, pass_no))
    found: list[int] = []
    for of_image in trips.values():
        in_order = sorted(of_image.values(), key=min)
        reached = 0
        for number, trip in enumerate(in_order):
            first, last = min(p for _, p in trip), max(p for _, p in trip)
            if number:
                found.append(max(0, reached - first + 1))
            reached = max(reached, last)
    return found
