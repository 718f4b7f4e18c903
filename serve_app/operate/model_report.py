"""What a checkpoint directory holds and can do, as lines and a table for an operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from rich.table import Table

from engine.model_directory.capacity import estimate_slots, in_units
from engine.model_directory.component import Component, LoadedBy
from engine.model_directory.directory import ModelDirectory
from engine.model_directory.known_class import Abilities

COLUMN = 14


def summary(model: ModelDirectory) -> Iterator[str]:
    """What it is and can do."""
    known, geometry = model.known, model.geometry
    edge = f"{geometry.edge}x{geometry.edge}"
    yield _line("family", f"{known.family}: {model.class_name} ({known.architecture})")
    yield _line("can", ", ".join(_abilities(known.abilities, can=True)))
    yield _line("cannot", ", ".join(_abilities(known.abilities, can=False)) or "-")
    sizes = f"{edge} unless asked; width and height divisible by {geometry.step}"
    yield _line("sizes", f"{edge} only" if geometry.fixed else sizes)
    yield _line("checkpoint", f"{in_units(geometry.checkpoint_bytes)} of a render of {edge}")
    yield _line("identity", f"{model.identity()[:16]} (sizes, headers and configs)")


def parts(model: ModelDirectory) -> Table:
    """Each component with its bytes as they are stored."""
    table = Table("component", "class", box=None, pad_edge=False)
    table.add_column("bytes", justify="right")
    for title in ("dtypes", "loaded by"):
        table.add_column(title)
    for part in sorted(model.components, key=lambda part: (part.loaded_by, -part.bytes)):
        table.add_row(part.name, part.class_name, f"{part.bytes:,}", _dtypes(part), part.loaded_by)
    for name in model.not_loaded:
        table.add_row(name, "", "", "", LoadedBy.NOTHING)
    return table


def totals(model: ModelDirectory) -> Iterator[str]:
    """What a replica of each kind loads."""
    for by in (LoadedBy.DECODER, LoadedBy.ENCODER):
        stored, loaded = model.bytes_loaded_by(by), model.bytes_in_bfloat16(by)
        said = f"{stored:,} bytes as stored, {in_units(loaded)} in bfloat16"
        yield _line(f"each {by}", said)


def room(model: ModelDirectory, memory_bytes: float) -> Iterator[str]:
    """How many slots one GPU has room for. OddConfig."""
    found = estimate_slots(model, memory_bytes)
    yield f"about {found.slots} slots of {model.geometry.edge}x{model.geometry.edge} fit (estimate)"
    yield f"  {found.formula}"


def _abilities(abilities: Abilities, *, can: bool) -> list[str]:
    named = {field.name: getattr(abilities, field.name) for field in fields(abilities)}
    if abilities.references:
        named[f"references (up to {abilities.references})"] = named.pop("references")
    names = [name for name, value in named.items() if bool(value) is can]
    return [name.replace("_", " ").replace("lora", "LoRA") for name in names]


def _dtypes(part: Component) -> str:
    sizes = sorted(part.bytes_by_dtype.items(), key=lambda item: -item[1])
    named = [name if len(sizes) == 1 else f"{name} {in_units(count)}" for name, count in sizes]
    return ", ".join(named) + (f" (variant {part.variant})" if part.variant else "")


def _line(title: str, text: str) -> str:
    return f"{title:<{COLUMN}}{text}"
