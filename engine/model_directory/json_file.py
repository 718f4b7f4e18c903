"""JSON files of a directory, and the error that refuses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JSON_BYTES = 16 * 2**20
"""Of one file. The index of a sharded model of 60 GB is below 1 MiB."""
REMOTE_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Keys by which a config asks for code that its folder brings along."""


class ModelRefused(ValueError):
    """The directory cannot be served. problems: all that was found, each one sentence that names
    the path and says what to do; the message is all of them, a line each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file. ModelRefused when it is none, or asks for remote code."""
    try:
        with path.open("rb") as file:
            text = file.read(JSON_BYTES + 1)
    except OSError as error:
        raise ModelRefused(f"{path}: cannot be read ({error.strerror}); copy it again") from None
    if len(text) > JSON_BYTES:
        raise ModelRefused(
            f"{path}: is larger than {JSON_BYTES:,} bytes; no config is: take it out"
        )
    found = parse_object(text, path)
    if key := next((key for key in _keys(found) if key in REMOTE_CODE), None):
        raise ModelRefused(
            f"{path}: {key} asks for code of the model's folder, which is never run; take a "
            "checkpoint in the stock format of diffusers or transformers"
        )
    return found


def parse_object(text: bytes, source: Path) -> dict[str, Any]:
    """A JSON object. ModelRefused; `source` names the file in it."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ModelRefused(f"{source}: not JSON: nested too deeply; copy it again") from None
    except ValueError as error:
        raise ModelRefused(f"{source}: not JSON ({error}); copy it again") from None
    if not isinstance(found, dict):
        raise ModelRefused(f"{source}: must hold a JSON object; copy it again")
    return found


def _keys(document: object) -> Iterator[str]:
    """Of a parsed document, at every depth; without recursion, since it may be deep."""
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from value
            left += value.values()
        elif isinstance(value, list):
            left += value
