"""A directory of pictures that is not the others' is refused at start, by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.blobs.marker import MARKER, Ids, StoreNotShared, read_marker
from jobs.blobs.opening import check_store as check_place
from jobs.blobs.places import DirectoryPlace
from jobs.blobs.store import DirectoryBlobs
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import Database


def at_once(_: float) -> None:
    """No time passes."""


def check_store(ledger: Ids, directory: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    check_place(ledger, DirectoryPlace(str(directory)), sleep)


def test_the_first_start_marks_and_the_others_find_it(ledger: SqlLedger, tmp_path: Path) -> None:
    shared = tmp_path / "blobs"
    check_store(ledger, shared, at_once)
    marked = read_marker(shared)
    assert marked is not None
    assert ledger.store_id() == marked
    check_store(ledger, shared, at_once)
    assert read_marker(shared) == marked
    assert [path.name for path in shared.iterdir()] == [MARKER]


def test_a_directory_of_a_node_alone_is_refused(ledger: SqlLedger, tmp_path: Path) -> None:
    check_store(ledger, tmp_path / "shared", at_once)
    alone = tmp_path / "alone"
    for _ in range(2):
        with pytest.raises(StoreNotShared, match=rf"^blobs.directory: {alone} has no marker"):
            check_store(ledger, alone, at_once)
    (alone / MARKER).write_text(f"{ledger.store_id()}\n")  # as the message says
    check_store(ledger, alone, at_once)


def test_a_directory_of_another_ledger_is_refused(ledger: SqlLedger, tmp_path: Path) -> None:
    check_store(ledger, tmp_path / "ours", at_once)
    with SqlLedgerAt(tmp_path / "other.db") as other:
        check_store(other, tmp_path / "theirs", at_once)
        with pytest.raises(StoreNotShared, match="theirs is marked"):
            check_store(ledger, tmp_path / "theirs", at_once)


def test_lanes_with_ledgers_of_their_own_may_share_a_directory(
    ledger: SqlLedger, tmp_path: Path
) -> None:
    check_store(ledger, tmp_path / "blobs", at_once)
    with SqlLedgerAt(tmp_path / "other.db") as other:
        check_store(other, tmp_path / "blobs", at_once)
        check_store(ledger, tmp_path / "blobs", at_once)


def test_an_installation_from_before_goes_on(ledger: SqlLedger, tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "blobs")
    blobs.put("images/ab/1.png", b"a picture")
    check_store(ledger, tmp_path / "blobs", at_once)
    check_store(ledger, tmp_path / "blobs", at_once)
    assert blobs.get("images/ab/1.png") == b"a picture"


def test_a_marker_whose_writer_died_is_written_again(ledger: SqlLedger, tmp_path: Path) -> None:
    """Before the ledger knew it; a whole one is taken as it is."""
    (tmp_path / MARKER).touch()
    check_store(ledger, tmp_path, at_once)
    assert read_marker(tmp_path) == ledger.store_id()


@pytest.mark.parametrize("shared", [True, False])
def test_many_that_start_at_once_agree(database: Database, tmp_path: Path, shared: bool) -> None:
    """On one directory all start; on one each, those of a single directory."""
    started: list[int] = []

    def start(number: int) -> None:
        directory = tmp_path / ("blobs" if shared else f"blobs-{number % 2}")
        try:
            check_store(database.open(), directory)
        except StoreNotShared:
            return
        started.append(number)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert started
    assert len({number % 2 for number in started}) == (2 if shared else 1)
    assert len(started) == 6 if shared else len(started) <= 3


class SqlLedgerAt:
    """Another ledger, in a file."""

    def __init__(self, file: Path) -> None:
        self._ledger = SqlLedger(f"sqlite:///{file}")

    def __enter__(self) -> SqlLedger:
        return self._ledger

    def __exit__(self, *_: object) -> None:
        self._ledger.close()
