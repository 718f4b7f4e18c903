"""PlanFigures with their sources, from figures.toml."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

FILE = Path(__file__).with_name("figures.toml")
KINDS = ("measured", "estimate", "setting")


class UnknownFigure(ValueError):
    """There is no such figure; the message begins with the option that asked for it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and where it is from."""

    value: float
    kind: str
    """measured (in this project), estimate, setting, or given."""
    source: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.source}"


T = TypeVar("T")
Group = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """All figures, by name."""

    steps: Sequence[tuple[str, str, str]]
    """Name, unit, formula."""
    service: Group
    gpus: Mapping[str, Group]
    """By GPU."""
    models: Mapping[str, Group]
    """Images a second by GPU, by model."""

    def gpu(self, name: str) -> Group:
        """What is known of a GPU. UnknownFigure."""
        return pick(self.gpus, name, "--gpu")

    def rate(self, model: str, gpu: str) -> Figure:
        """Images a second of one GPU. UnknownFigure."""
        hint = "; measure it and say --set images_per_gpu_second=R"
        rates = pick(self.models, model, "--model", hint)
        return pick(rates, gpu, f"--gpu for {model}", hint)


def load_figures(path: Path = FILE) -> PlanFigures:
    """All of them. ValueError for a figure without a source."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    groups = {
        kind: {name: _group(entries, name) for name, entries in document[kind].items()}
        for kind in ("gpus", "models")
    }
    return PlanFigures(document["steps"], _group(document["service"], "service"), **groups)


def _group(entries: Mapping[str, dict[str, object]], where: str) -> Group:
    return {name: _figure(entry, f"{where}.{name}") for name, entry in entries.items()}


def _figure(entry: dict[str, object], where: str) -> Figure:
    value, *kinds = entry
    number, source = entry[value], entry[kinds[0]] if kinds else ""
    if (value, *kinds) not in [("value", kind) for kind in KINDS] or not source:
        raise ValueError(
            f"{where}: wanted a value, then its source as measured, estimate or setting"
        )
    if not isinstance(number, int | float) or number <= 0:
        raise ValueError(f"{where}: the value must be a number over 0")
    return Figure(float(number), kinds[0], str(source))


def pick(known: Mapping[str, T], name: str, option: str, hint: str = "") -> T:
    """The entry of that name. UnknownFigure with what was perhaps meant."""
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    meant = f", did you mean {close[0]}?" if close else ";"
    raise UnknownFigure(
        f"{option}: unknown {name!r}{meant} known: {', '.join(sorted(known))}{hint}"
    )
