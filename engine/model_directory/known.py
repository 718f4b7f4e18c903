"""The classes that are run here, as the reader of directories takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.decoders.diffusers.table import (
    ARCHITECTURES,
    CLASSES,
    Guidance,
    Task,
    classes_by_task,
)
from engine.decoders.janus import folder as janus
from engine.model_directory.directory import ModelDirectory
from engine.model_directory.known_class import Abilities, KnownClass
from engine.model_directory.reader import read_model

WITHOUT_LORAS = frozenset({"amused", "bria", "ovis-image", "pixart", "prx"})
"""Architectures for which diffusers reads no LoRA files."""


def _diffusers(name: str) -> KnownClass:
    """What a checkpoint of this pipeline class can do, also by other classes for its components."""
    architecture, tasks = CLASSES[name].architecture, classes_by_task(name)
    row = ARCHITECTURES[architecture]
    abilities = Abilities(
        generate=Task.DRAW in tasks,
        edit=Task.CHANGE in tasks,
        inpaint=Task.REDRAW in tasks,
        references=CLASSES[name].references_max if Task.REFER in tasks else 0,
        control=Task.CONTROL in tasks,
        negative_prompt=bool(row.negative),
        lora=architecture not in WITHOUT_LORAS,
    )
    rows = 2 if row.guidance is Guidance.PAIRED else 1
    return KnownClass(
        "diffusers", architecture, row.denoisers[0], row.size_multiple, rows, abilities
    )


KNOWN: Mapping[str, KnownClass] = {
    **{name: _diffusers(name) for name in CLASSES},
    **janus.KNOWN,
}


def read_known(path: Path) -> ModelDirectory:
    """A directory of a class that is run here, with all that its family asks of one. ModelRefused
    with everything that is wrong."""
    found = read_model(path, KNOWN)
    if found.known.family == "janus":
        janus.JanusFolder.open(path)
    return found
