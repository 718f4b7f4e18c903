"""Processes of the bench that take one JSON command a line and answer each with one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from scripts.bench.recipe import Recipe


class Workers:
    """`count` processes of one module with the same recipe, told the same thing at once."""

    def __init__(self, module: str, recipe: Recipe, count: int = 1) -> None:
        command = [sys.executable, "-m", module, json.dumps(recipe.to_json())]
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        for process in self._processes:
            if self._read(process) != "ready":
                raise RuntimeError(f"{module} did not start")

    def ask(self, commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """commands[i] to process i, all at the same time; their answers in order."""
        for process, command in zip(self._processes, commands, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        return [json.loads(self._read(process)) for process in self._processes]

    def _read(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"a bench process ended with {process.wait()}")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
