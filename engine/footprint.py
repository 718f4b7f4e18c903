"""What a decoder takes of its device's memory, whether that fits, and how wide its forwards are.
Pure: no tensors, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.model_directory.capacity import in_units

NEARLY_AS_FAST = 0.97
"""Of the images a second of the best width: wider forwards than it are taken down to that."""


class DoesNotFit(ValueError):
    """So many slots find no room; the message has the sum, and how many would."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes, as measured with renders of the checkpoint's own size."""

    usable: int
    """What this process may hold."""
    weights: int
    """What it holds before the first render."""
    render: int
    """What each render keeps between two passes."""
    decode: int
    """What turning one render into pixels takes on top, beside the passes."""
    passes: Mapping[int, int]
    """What a forward takes on top while it runs, by its width; at least one."""

    def pass_bytes(self, width: int) -> int:
        """Of a forward of that many renders: of the next width that was measured, else by a
        straight line through the two widest."""
        wider = [measured for measured in self.passes if measured >= width]
        if wider:
            return self.passes[min(wider)]
        *_, last = measured = sorted(self.passes)
        if len(measured) == 1:
            return self.passes[last] * width // last
        before = measured[-2]
        slope = (self.passes[last] - self.passes[before]) / (last - before)
        return self.passes[last] + max(0, round(slope * (width - last)))

    def total(self, slots: int, width: int) -> int:
        """Of so many renders, at most `width` of them in a forward."""
        return self.weights + slots * self.render + self.pass_bytes(min(slots, width)) + self.decode

    def fits(self, slots: int, width: int) -> bool:
        """Whether there is room for that."""
        return self.total(slots, width) <= self.usable

    def most_slots(self, slots: int, width: int) -> int:
        """The most of them, up to `slots`, that there is room for; 0 for none."""
        return next((n for n in range(slots, 0, -1) if self.fits(n, width)), 0)

    def refusal(self, slots: int, width: int) -> str:
        """Why so many do not fit, and how many would."""
        most = self.most_slots(slots, width)
        return (
            f"slots: {slots} do not fit: weights {in_units(self.weights)} + {slots} renders of "
            f"{in_units(self.render)} + a forward of {min(slots, width)} with "
            f"{in_units(self.pass_bytes(min(slots, width)))} + a decode of {in_units(self.decode)} "
            f"= {in_units(self.total(slots, width))}, and this process may hold "
            f"{in_units(self.usable)}; "
            + (f"{most} would fit" if most else "not even one fits: take a larger device")
        )


def choose_width(footprint: Footprint, slots: int, seconds: Mapping[int, float]) -> int:
    """The widest forward that fits and draws nearly as many images a second as the best one.
    seconds: of a pass, by width; at least one. DoesNotFit when none fits.

    Fairness and previews do not depend on it: each of the `slots` renders does its pass in every
    round, in one forward or in several."""
    fitting = {width: took for width, took in seconds.items() if footprint.fits(slots, width)}
    if not fitting:
        raise DoesNotFit(footprint.refusal(slots, min(seconds)))
    best = max(width / took for width, took in fitting.items())
    return max(width for width, took in fitting.items() if width / took >= NEARLY_AS_FAST * best)


def buckets(most: int) -> tuple[int, ...]:
    """The widths that are measured: 1, 2, 4, ... and `most`."""
    powers = [2**n for n in range(most.bit_length()) if 2**n < most]
    return (*powers, most)
