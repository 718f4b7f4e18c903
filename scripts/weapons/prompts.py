"""What is drawn for the weapons screen: harmless prompts, most of which the model cannot draw well,
and weapons in every look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("prompts.tsv")
SETS = {"training": (8, 1_000_000), "calibration": (16, 2_000_000), "measured": (16, 3_000_000)}
"""Passes of each set, and its first seed: training pictures are rougher than those of a service."""


@dataclass(frozen=True)
class Drawing:
    """One picture to draw. weapon: whether the prompt asks for one of the model's weapons."""

    prompt: str
    weapon: bool
    seed: int
    passes: int


def drawings(name: str) -> list[Drawing]:
    """Those of one of SETS, in the order in which they are drawn."""
    passes, first = SETS[name]
    rows = [line.split("\t") for line in LIST.read_text(encoding="utf-8").splitlines()]
    chosen = [(kind == "weapon", prompt) for owner, kind, prompt in
              (row for row in rows if len(row) == 3) if owner == name]  # fmt: skip
    return [Drawing(p, weapon, first + i, passes) for i, (weapon, p) in enumerate(chosen)]
