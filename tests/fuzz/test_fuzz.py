"""The small run of `make fuzz`: what it says last."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_surface_holds_a_small_run() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--quick"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["schemathesis_cases"] > 50
    assert found["hostile_files"] > 3
    assert found["hostile_prompts"] > 20
    assert (found["schemathesis_failures"], found["crashes"]) == (0, 0)
