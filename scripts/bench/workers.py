"""Processes of the bench that take one JSON command a line and answer each with one line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scripts.bench.recipe import Recipe
from scripts.children import Child, await_ready, children, read_line, tell


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes of one module with the same recipe, told the same thing at once."""

    running: Sequence[Child]

    def ask(self, commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """commands[i] to process i, all at the same time; their answers in order."""
        for child, command in zip(self.running, commands, strict=True):
            tell(child, json.dumps(command))
        return [json.loads(read_line(child)) for child in self.running]


@contextmanager
def workers(module: str, recipe: Recipe, count: int = 1) -> Iterator[Workers]:
    """`count` of them, ready."""
    with children([["-m", module, json.dumps(recipe.to_json())]] * count) as running:
        await_ready(running)
        yield Workers(running)
