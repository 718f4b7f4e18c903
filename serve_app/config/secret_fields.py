"""Which fields of a config file hold secrets: said by their types, so that whatever prints a value
asks here. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def _itself(value: object) -> frozenset[str]:
    return frozenset((str(value),))


@dataclass(frozen=True, slots=True)
class Secret:
    """A field's marker, in its Annotated. of: what of a value must not be shown; nothing where it
    holds no secret after all."""

    of: Callable[[object], frozenset[str]] = _itself


Path = tuple[str, ...]
_NAMED = re.compile(
    r"(?:^|_)(?:secret|password|passwd|passphrase|token|credential|key)s?$|^env_vars$", re.I
)
_UNKNOWN = object()


def is_secret(root: type[BaseModel], path: Path, value: object) -> bool:
    """Whether `value`, which stands at `path` below a section, must not be shown. What the section
    does not know, such as a field of another version, is taken for one; in what it leaves to others
    (Ray's options, a family's) names say so, and URLs with a user."""
    return any(_secrets(root, where, one) for where, one in scalars(value, path))


def secrets_in(root: type[BaseModel], document: object) -> Iterator[tuple[Path, frozenset[str]]]:
    """Every secret that stands in a document: its path, and what must not be shown."""
    found = ((path, _secrets(root, path, value)) for path, value in scalars(document, ()))
    return ((path, words) for path, words in found if words)


def hidden(text: str, root: type[BaseModel], document: object) -> str:
    """What others say about a document, such as the error of a server that repeats it, without the
    document's secrets."""
    words = {word for _, found in secrets_in(root, document) for word in found if len(word) > 2}
    for word in sorted(words, key=len, reverse=True):
        for spelled in (word, json.dumps(word)[1:-1]):
            text = text.replace(spelled, "(secret)")
    return text


def scalars(value: object, path: Path) -> Iterator[tuple[Path, object]]:
    """Everything in a document that is neither a mapping nor a list, nor missing."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from scalars(inner, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from scalars(inner, (*path, str(number)))
    elif value is not None:
        yield path, value


def _secrets(root: type[BaseModel], path: Path, value: object) -> frozenset[str]:
    annotation: Any = root
    markers: tuple[Any, ...] = ()
    for place, part in enumerate(path):
        annotation, markers = _step(annotation, part)
        if annotation is _UNKNOWN:
            return _itself(value)
        if annotation is Any:
            return _itself(value) if _untyped(path[place:], value) else frozenset()
    marked = [marker.of(value) for marker in markers if isinstance(marker, Secret)]
    return frozenset().union(*marked)


def _step(annotation: Any, part: str) -> tuple[Any, tuple[Any, ...]]:
    """The annotation of an entry below one, and its markers."""
    origin, kinds = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(part)
        return (_UNKNOWN, ()) if field is None else _bare(field.annotation, tuple(field.metadata))
    if origin in (list, tuple, dict):
        return _bare(kinds[1] if origin is dict else kinds[0], ())
    return _UNKNOWN, ()  # more of it than the section expects


def _bare(annotation: Any, markers: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Without `| None` and Annotated; Any for what may be anything, such as JSON."""
    origin, kinds = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bare(kinds[0], (*markers, *kinds[1:]))
    if origin in (Union, UnionType):
        real = [kind for kind in kinds if kind is not type(None)]
        return _bare(real[0], markers) if len(real) == 1 else (Any, markers)
    typed = isinstance(annotation, type) or origin is not None
    return (annotation if typed else Any), markers


def _untyped(path: Path, value: object) -> bool:
    named = any(_NAMED.search(part) for part in path)
    return named or "@" in str(value).partition("://")[2]  # a URL with a user in it
