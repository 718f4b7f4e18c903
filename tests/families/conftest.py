"""One set of tiny checkpoints for the whole session."""

from __future__ import annotations

import pytest

from tests.families import kit


@pytest.fixture(scope="session", autouse=True)
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> None:
    kit.SCRATCH[:] = [tmp_path_factory.mktemp("checkpoints")]
