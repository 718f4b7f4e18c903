"""Replicas take messages as large as pictures are, on clusters whose environment says nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

LARGE = 3840 * 2160 * 4
"""Bytes of the largest picture with alpha that a size may ask for."""


@pytest.mark.parametrize("module", ["decoder", "dispatcher", "encoder", "safety"])
def test_a_process_that_imports_a_deployment_takes_large_messages(module: str) -> None:
    """In a process of its own, as a replica is: nothing else has imported anything there."""
    code = (
        f"import deployments.{module}\n"
        "from ray.serve._private import replica\n"
        "print(replica.RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(said.stdout) > LARGE
