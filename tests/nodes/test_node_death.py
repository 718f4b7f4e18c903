"""Two nodes of Ray in network namespaces behind HAProxy: one is killed under load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from scripts.chaos_cluster import isolation
from scripts.chaos_cluster.proof import WRONG
from tests.cluster.conftest import ROOT
from tests.stages.tools import programs

pytestmark = pytest.mark.cluster


def test_a_node_that_is_killed_under_load_costs_no_picture() -> None:
    programs(*isolation.PROGRAMS)
    if (why := isolation.missing()) is not None:
        pytest.skip(why)
    command = ["--only", "lose-node", "--nodes", "2", "--one-database"]
    run = subprocess.run(
        [sys.executable, "-m", "scripts.chaos_cluster", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    wrong = (*WRONG, "client_errors")
    assert {key: found[key] for key in wrong} == dict.fromkeys(wrong, 0), run.stdout
    assert found["node_kill_images"] > 0, "it had renders in its slots"
    assert found["node_kill_images_not_drawn_again"] == 0, run.stdout
    assert found["node_kill_recovery_s"] is not None
