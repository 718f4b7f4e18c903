"""Schemathesis over /openapi.json: every phase and check; schemathesis.toml says where not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = Path(__file__).with_name("schemathesis.toml")


@dataclass(frozen=True, slots=True)
class Effort:
    """examples: at most so many cases for each operation in the phases that draw at random."""

    phases: str
    examples: int
    seed: int | None = None


FULL = Effort("examples,coverage,fuzzing,stateful", 200)
QUICK = Effort("examples,fuzzing,stateful", 2, seed=1)


@dataclass(frozen=True, slots=True)
class Tried:
    """failures: unique ones, and errors of schemathesis itself. said: its report to people."""

    cases: int
    failures: int
    said: str


def schemathesis(url: str, folder: Path, effort: Effort) -> Tried:
    """Ask the service there. folder: where the report goes."""
    report = folder / "schemathesis.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
        *("run", f"{url}/openapi.json", "--phases", effort.phases, "-n", str(effort.examples)),
        *("--report", "json", "--report-json-path", str(report)),
        *("--generation-database", "none", "--no-color"),
        *(() if effort.seed is None else ("--seed", str(effort.seed))),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    said = ran.stdout + ran.stderr
    if not report.exists():
        raise RuntimeError(f"schemathesis did not run:\n{said}")
    found: dict[str, Any] = json.loads(report.read_text())
    cases = found["test_cases"]
    failures = len(found["failures"]) + len(found["errors"]) + (not found["complete"])
    return Tried(cases["generated"], failures, said)
