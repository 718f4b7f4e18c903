"""What is wrong with a configuration, in one line: the field's path, and what was perhaps meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_A_FIELD = re.compile(r"[a-z_]+(\.[A-Za-z0-9_-]+)*: ")
"""What a sentence about a field further in begins with."""


RENAMED = {"dispatcher.shelf": "ready_queue"}
"""Keys that were called otherwise, by section and name."""


class ConfigError(Exception):
    """The configuration is wrong; the message, which is the first problem, names the file and the
    field. problems: all of them."""

    def __init__(self, *problems: str) -> None:
        super().__init__(problems[0])
        self.problems = problems


def problems(root: type[BaseModel], error: ValidationError) -> list[str]:
    """`decoder.slotz: unknown key, did you mean slots?`; unknown keys are named first, because
    they explain missing ones. The value itself is not repeated: it may be a secret."""
    found = error.errors(include_url=False, include_input=False)
    found.sort(key=lambda problem: problem["type"] != "extra_forbidden")
    return list(dict.fromkeys(_line(root, problem) for problem in found))


def unknown(name: str, known: Iterable[str], what: str = "key") -> str:
    """That this name is unknown, and what was perhaps meant."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"unknown {what}" + (f", did you mean {close[0]}?" if close else "")


def _line(root: type[BaseModel], problem: ErrorDetails) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    sentence = _sentence(root, problem)
    return f"{path}: {sentence}" if path and not sentence.startswith(path) else sentence


def _sentence(root: type[BaseModel], problem: ErrorDetails) -> str:
    kind, loc = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        if (now := RENAMED.get(".".join(map(str, loc[-2:])))) is not None:
            return f"unknown key, it is called {now} now"
        return unknown(str(loc[-1]), _known(root, loc[:-1]))
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        path = ".".join(str(part) for part in loc)
        text = str(problem["ctx"]["error"])
        return f"{path}.{text}" if path and _A_FIELD.match(text) else text
    message = problem["msg"]
    return message[0].lower() + message[1:]


def _known(root: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The field names of the section at `loc`."""
    section: type[BaseModel] | None = root
    for part in loc:
        field = section.model_fields.get(part) if section and isinstance(part, str) else None
        if field is not None:  # list indexes and dictionary keys stay in the same annotation
            section = next(_sections(field.annotation), None)
    return list(section.model_fields) if section else []


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section types inside an annotation such as tuple[KeySection, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)
