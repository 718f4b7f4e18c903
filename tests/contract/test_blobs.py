"""The BlobStore's contract: whole or absent, and no key leads out of the store."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from jobs.blobs.store import BlobMissing, BlobStore, DirectoryBlobs, image_key, preview_key
from jobs.job import new_job_id


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return DirectoryBlobs(tmp_path / "blobs")


@pytest.mark.parametrize("durable", [True, False])
def test_a_blob_comes_back_and_goes(blobs: BlobStore, durable: bool) -> None:
    key = image_key(new_job_id(), 0, 3, "png")
    blobs.put(key, b"\x89PNG", durable=durable)
    assert blobs.get(key) == b"\x89PNG"
    blobs.put(key, b"", durable=durable)
    assert blobs.get(key) == b"", "written again, it is replaced whole"
    blobs.delete(key)
    blobs.delete(key)
    with pytest.raises(BlobMissing):
        blobs.get(key)


def test_a_blob_is_read_in_parts(blobs: BlobStore) -> None:
    blobs.put("a/b", b"0123456789")
    assert blobs.size("a/b") == 10
    assert [blobs.read("a/b", at, 4) for at in (0, 4, 8, 10, 12)] == [
        b"0123", b"4567", b"89", b"", b"",
    ]  # fmt: skip
    for missing in ("a", "a/c", "a/b/c"):
        with pytest.raises(BlobMissing):
            blobs.size(missing)
        with pytest.raises(BlobMissing):
            blobs.read(missing, 0, 1)


def test_keys_do_not_meet() -> None:
    job = new_job_id()
    keys = {image_key(job, i, fence, "png") for i in range(3) for fence in range(3)}
    keys |= {preview_key(job, i, p, "webp") for i in range(3) for p in range(3)}
    assert len(keys) == 18


@pytest.mark.parametrize(
    "key",
    [
        "", ".", "..", "/etc/passwd", "../up", "a/../../up", "a/./b", "a//b", "a/", "/a", "a\\b",
        "a\0b", "a\n", "a b", "é", ".hidden", "a/.hidden", "~/a", "%2e%2e/a", "x" * 101,
        "a/" * 9 + "a",
    ],
)  # fmt: skip
def test_a_key_that_we_would_never_make(blobs: BlobStore, key: str) -> None:
    for verb in (
        lambda: blobs.put(key, b"x"),
        lambda: blobs.get(key),
        lambda: blobs.size(key),
        lambda: blobs.read(key, 0, 1),
        lambda: blobs.delete(key),
    ):
        with pytest.raises(ValueError, match="not a blob key"):
            verb()


def test_a_directory_is_no_blob(blobs: BlobStore) -> None:
    blobs.put("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(BlobMissing):
            blobs.get(key)
    blobs.delete("a/b/c")
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the file system
        blobs.put("a/b/c", b"x")
    assert blobs.get("a/b") == b"x"


def test_readers_see_a_whole_blob_while_it_is_replaced(blobs: BlobStore) -> None:
    versions = [bytes([n]) * 200_000 for n in range(4)]
    blobs.put("images/a.png", versions[0])

    def write(data: bytes) -> None:
        for _ in range(20):
            blobs.put("images/a.png", data, durable=False)

    writers = [threading.Thread(target=write, args=(data,)) for data in versions]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert blobs.get("images/a.png") in versions
    for writer in writers:
        writer.join()


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    blobs.put("a/b", b"old")
    (tmp_path / "a" / "c").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - a directory is in the way
        blobs.put("a/c", b"new")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b", "c"]
