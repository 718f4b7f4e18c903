"""Files of tenants in the ledger, on each database: seen by their owner alone, and never too many.
And which job went on from which."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from jobs.client.async_ledger import AsyncLedger
from jobs.files import INPUT, FileRoom
from jobs.job import image_id
from jobs.ledger import Ledger
from jobs.ledger_errors import FilesFull
from jobs.request import SourceImage
from tests.stages.ledger_kit import Clock, Database, upload, wish


def test_a_file_comes_back_to_its_owner_alone(ledger: Ledger, clock: Clock) -> None:
    file = upload()
    stored = ledger.add_file(replace(file, filename="fu\ud800chs\0.png"))
    assert (stored.created_at, stored.expires_at) == (clock.now, clock.now + 100)
    assert ledger.file("ada", file.id) == stored
    assert ledger.file("bob", file.id) is None
    assert ledger.file("ada", "file-nobody-made") is None
    assert not ledger.drop_file("bob", file.id)
    assert ledger.file("ada", file.id) == stored
    assert ledger.drop_file("ada", file.id)
    assert ledger.file("ada", file.id) is None
    assert not ledger.drop_file("ada", file.id)
    assert [f.id for f in ledger.stale_files(10)] == [file.id]


def test_files_are_listed_newest_first_page_by_page(ledger: Ledger, clock: Clock) -> None:
    ids = []
    for number in range(4):
        clock.now += number % 3  # the last two came at the same time
        ids.append(ledger.add_file(upload()).id)
    ledger.add_file(upload("bob"))
    hidden = ledger.add_file(upload(purpose=INPUT))
    listed = [file.id for file in ledger.files("ada", 10)]
    assert set(listed[:2]) == {ids[2], ids[3]}
    assert listed[2:] == [ids[1], ids[0]]
    first = [file.id for file in ledger.files("ada", 1)]
    rest = [file.id for file in ledger.files("ada", 10, after=first[-1])]
    assert first + rest == listed
    assert ledger.files("bob", 10, after=first[0]) == [], "another's file is no place to go on from"
    assert ledger.file("ada", hidden.id) is None


def test_what_has_expired_is_gone_for_everybody_but_the_collector(
    ledger: Ledger, clock: Clock
) -> None:
    old = ledger.add_file(upload())
    clock.now += 50
    young = ledger.add_file(upload())
    clock.now += 50
    assert ledger.file("ada", old.id) is None
    assert [file.id for file in ledger.files("ada", 10)] == [young.id]
    assert ledger.stale_files(10) == [old]
    ledger.forget_files([old])
    assert ledger.stale_files(10) == []
    hidden = ledger.add_file(upload(purpose=INPUT))
    assert {file.id for file in ledger.stale_files(10, "ada")} == {young.id, hidden.id}
    assert ledger.stale_files(10, "bob") == []


def test_a_tenant_keeps_as_many_as_it_may(ledger: Ledger, clock: Clock) -> None:
    room = FileRoom(files=2, bytes=250)
    first = ledger.add_file(upload(), room)
    with pytest.raises(FilesFull, match="1 files of 100 bytes are kept; at most 2 files of 250"):
        ledger.add_file(upload(size_bytes=151), room)
    ledger.add_file(upload(size_bytes=150), room)
    with pytest.raises(FilesFull):
        ledger.add_file(upload(size_bytes=0), room)
    ledger.add_file(upload(purpose=INPUT), room)
    ledger.add_file(upload("bob"), room)
    ledger.drop_file("ada", first.id)
    ledger.add_file(upload(), room)
    clock.now += 100
    ledger.add_file(upload(size_bytes=250), room)


def test_a_newcomer_keeps_less(ledger: Ledger) -> None:
    room = FileRoom(bytes=250, newcomer_bytes=120)
    ledger.add_file(upload(), room)
    with pytest.raises(FilesFull, match="of 120 bytes together"):
        ledger.add_file(upload(size_bytes=21), room)
    ledger.submit(wish())
    ledger.add_file(upload(size_bytes=150), room)


def test_uploads_at_the_same_time_are_counted_one_after_the_other(database: Database) -> None:
    ledgers = [database.open() for _ in range(6)]
    refused: list[FilesFull] = []

    def add(ledger: Ledger) -> None:
        try:
            ledger.add_file(upload(), FileRoom(files=2))
        except FilesFull as error:
            refused.append(error)

    threads = [threading.Thread(target=add, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 4
    assert len(ledgers[0].files("ada", 10)) == 2


async def test_the_same_verbs_awaited(database: Database, clock: Clock) -> None:
    ledger = AsyncLedger(database.open(clock=clock))
    file = await ledger.add_file(upload())
    assert await ledger.file("ada", file.id) == file
    assert await ledger.files("ada", 10) == [file]
    assert await ledger.drop_file("ada", file.id)
    (stale,) = await ledger.stale_files(10)
    await ledger.forget_files([stale])
    assert await ledger.stale_files(10) == []
    assert await ledger.children("ada", "nobody") == []
    assert await ledger.ancestors("ada", "nobody") == []
    ledger.close()


def test_children_are_found_by_their_parent(ledger: Ledger) -> None:
    parent = ledger.submit(wish()).job

    def go_on(tenant: str, from_image: str | None) -> str:
        source = SourceImage(canvas="inputs/a", small="inputs/b", redraw="ff", parent=from_image)
        return ledger.submit(wish(tenant=tenant, source=source)).job.id

    ours = [go_on("ada", image_id(parent.id, index)) for index in (0, 1)]
    go_on("bob", image_id(parent.id, 0))
    go_on("ada", None)
    go_on("ada", image_id(ours[0], 0))
    assert [job.id for job in ledger.children("ada", parent.id)] == ours
    assert [job.id for job in ledger.children("ada", parent.id, 1)] == ours[-1:]
    assert ledger.children("ada", ours[1]) == []


def test_a_line_of_ancestors_is_one_question(ledger: Ledger) -> None:
    line = [ledger.submit(wish()).job.id]
    for _ in range(3):
        source = SourceImage(
            canvas="inputs/a", small="inputs/b", redraw="ff", parent=image_id(line[-1], 0)
        )
        line.append(ledger.submit(wish(source=source)).job.id)
    assert [job.id for job in ledger.ancestors("ada", line[-1])] == line[2::-1]
    assert [job.id for job in ledger.ancestors("ada", line[-1], 2)] == line[2:0:-1]
    assert ledger.ancestors("ada", line[0]) == []
    assert ledger.ancestors("bob", line[-1]) == []
