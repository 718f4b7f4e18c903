"""The previous release beside this one on one ledger, killed and stopped under load."""

from __future__ import annotations

import pytest

from scripts.chaos.previous import HistoryMissing, previous_release
from scripts.chaos.rolling import rolling_update
from scripts.postgres import PostgresMissing
from tests.commands.test_chaos import KINDS

pytestmark = pytest.mark.slow

QUIET = tuple(kind for kind in KINDS if kind != "wrong_pictures")  # versions may draw otherwise


@pytest.fixture(autouse=True)
def history() -> None:
    try:
        previous_release()
    except HistoryMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_old_and_new_do_each_others_jobs(database: str) -> None:
    try:
        found = rolling_update(database, seconds=3.0, seed=1, keep=None)
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    assert {kind: found[kind] for kind in QUIET} == dict.fromkeys(QUIET, 0), found
    assert found["unreadable"] == 0, found
    assert min(found["crossed"].values()) > 0, found
    assert found["accepted"] > 20
