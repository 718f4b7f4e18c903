"""What a directory must not hold, anywhere in it: pickles, code, links that lead nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.model_directory.json_file import ModelRefused

MOST_FILES = 10_000
"""A checkpoint has some dozens."""
PICKLE = "is a pickle, which can run code when it is read; convert it to safetensors and delete it"
CODE = "is code, and code in a model folder is never run; delete it"
REFUSED = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"), PICKLE),
    **dict.fromkeys((".py", ".pyc", ".so"), CODE),
}
"""By the file's suffix."""


def refused_files(root: Path) -> list[str]:
    """A sentence for each. Links may lead out of the directory, as those of a hub cache do.
    ModelRefused when there are too many files for a checkpoint, or one whose reading may not end.
    """
    found = []
    for number, path in enumerate(_files(root)):
        if number >= MOST_FILES:
            raise ModelRefused(
                f"{root}: holds more than {MOST_FILES:,} files; name the folder of one checkpoint"
            )
        if not path.exists():
            found.append(
                f"{path}: is a link to {os.readlink(path)}, which is not there; download it again "
                "or delete the link"
            )
        elif not path.is_file():
            raise ModelRefused(f"{path}: is neither a file nor a folder; delete it")
        elif why := REFUSED.get(path.suffix.lower()):
            found.append(f"{path}: {why}")
    return found


def _files(root: Path) -> Iterator[Path]:
    """In the order of their names, those behind linked folders too, each folder once."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = sorted(folders) if real not in seen else []
        yield from (Path(folder, name) for name in (sorted(files) if real not in seen else ()))
        seen.add(real)


def _raise(error: OSError) -> None:
    raise ModelRefused(f"{error.filename}: cannot be listed ({error.strerror}); allow reading it")
