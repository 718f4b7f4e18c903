"""From a checkpoint directory to what it holds and can do: a folder of diffusers with its
model_index.json, or one of transformers with its config.json. Nothing is loaded, no tensor read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from engine.model_directory import of_diffusers, of_transformers
from engine.model_directory.directory import ModelDirectory
from engine.model_directory.files import refused_files
from engine.model_directory.json_file import ModelRefused, read_object
from engine.model_directory.known_class import KnownClass

KINDS = {
    of_diffusers.INDEX: (of_diffusers.read, frozenset({"diffusers"})),
    of_transformers.CONFIG: (of_transformers.read, frozenset({"janus"})),
}
"""How a folder with that file at its top is read, and the families that draw from it; the first
file that is there decides."""


def read_model(path: Path, known: Mapping[str, KnownClass]) -> ModelDirectory:
    """known: the classes that are run, by name. ModelRefused with everything that is wrong."""
    name = _kind(path)
    read, families = KINDS[name]
    rows = {class_name: row for class_name, row in known.items() if row.family in families}
    problems = refused_files(path)
    try:
        found = read(path, read_object(path / name), rows)
    except ModelRefused as error:
        raise ModelRefused(*problems, *error.problems) from None
    if problems:
        raise ModelRefused(*problems)
    return found


def _kind(path: Path) -> str:
    if not os.path.exists(path):  # false, too, for what can be no path
        raise ModelRefused(f"{path}: does not exist; name the folder of a downloaded checkpoint")
    if not os.path.isdir(path):
        raise ModelRefused(f"{path}: is no directory; name the folder that holds the file")
    for name in KINDS:
        if (path / name).exists():
            return name
    raise ModelRefused(
        f"{path}: has neither {' nor '.join(KINDS)}, the files of diffusers and transformers; "
        "name the folder that holds one of them"
    )
