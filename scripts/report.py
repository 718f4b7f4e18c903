"""What every bench prints: a line at once, and its figures beside their goals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

Goals = Mapping[str, tuple[str, float]]
"""By key: `<=` or `>=`, and the figure to reach."""


def say(line: str) -> None:
    """A line that is seen at once."""
    print(line, flush=True)


def rich_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table whose cells stand to the right."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=110).print(table)


def table(goals: Goals, found: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """A line for each goal, a column for each of what was measured."""
    yield f"{'':34}{'goal':>8}" + "".join(f"{name:>12}" for name in found)
    for key, (sign, goal) in goals.items():
        columns = "".join(f"{values[key]:12.3f}" for values in found.values())
        yield f"{key:34}{sign + str(goal):>8}{columns}"


def missed(goals: Goals, found: Mapping[str, float]) -> list[str]:
    """The keys that fall short of their goal."""
    return [
        key
        for key, (sign, goal) in goals.items()
        if key in found and (found[key] < goal if sign == ">=" else found[key] > goal)
    ]
