"""What Ray would say about a Serve config file, asked before it is deployed, without a cluster.

Ray ignores keys that it does not know, at any depth, so that files of newer versions pass; here
they are problems.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

OURS = frozenset({"args", "user_config"})
"""Free-form for Ray; the project's own sections are stricter."""

Problem = tuple[str, str, tuple[str, ...]]
"""A path such as `applications.0.name`, what is wrong (empty: an unknown key), and the keys that
are known there."""


def ray_problems(document: dict[str, Any]) -> list[Problem]:
    """Everything that Ray refuses or would ignore."""
    # A copy, because Ray's validators write into what they read.
    found = _refused(ServeDeploySchema, copy.deepcopy(document))
    return [*_unknown(ServeDeploySchema, document, ""), *found]


def _refused(model: type[BaseModel], value: Any) -> list[Problem]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of defaults of its own
            model.model_validate(value)
    except ValidationError as error:
        return [
            (_join(*_in(value, problem["loc"])), _sentence(problem["msg"]), ())
            for problem in error.errors(include_url=False, include_input=False)
        ]
    except (ValueError, TypeError, ImportError, AttributeError) as error:  # it imports policies
        return [("applications", str(error), ())]
    return []


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ").rstrip("!")
    return message[0].lower() + message[1:]


def _in(value: Any, loc: tuple[int | str, ...]) -> Iterator[int | str]:
    """The parts of `loc` that are in the document; pydantic adds the names of union members."""
    for part in loc:
        entries = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(entries, dict) and part in entries:
            value = entries[part]
            yield part


def _unknown(model: type[BaseModel], value: Any, path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        here = _join(path, key)
        if key in OURS:
            continue
        if key not in model.model_fields:
            yield here, "", tuple(model.model_fields)
            continue
        for section in _sections(model.model_fields[key].annotation):
            for number, one in enumerate(inner) if isinstance(inner, list) else [("", inner)]:
                yield from _unknown(section, one, _join(here, number))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation such as Optional[List[Model]]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]


def _join(*parts: int | str) -> str:
    return ".".join(str(part) for part in parts if part != "")
