"""The BlobStore's contract: whole or absent, and no key leads out of the store."""

from __future__ import annotations

import random
import secrets
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.blobs.opening import open_store
from jobs.blobs.store import BlobMissing, BlobStore, DirectoryBlobs, image_key, preview_key
from jobs.job import new_job_id
from scripts.servers.seaweedfs import SeaweedFS
from serve_app.config.blobs import S3Section


@pytest.fixture(params=["directory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "directory":
        return DirectoryBlobs(tmp_path / "blobs")
    server: SeaweedFS = request.getfixturevalue("seaweedfs")
    return open_store(S3Section(**server.section(prefix=secrets.token_hex(8))).place())


@pytest.mark.parametrize("durable", [True, False])
def test_a_blob_comes_back_and_goes(blobs: BlobStore, durable: bool) -> None:
    key = image_key(new_job_id(), 0, 3, "png")
    blobs.put(key, b"\x89PNG", durable=durable)
    assert blobs.get(key) == b"\x89PNG"
    blobs.put(key, b"", durable=durable)
    assert blobs.get(key) in (b"\x89PNG", b""), "written again, one of both is there whole"
    blobs.delete(key)
    blobs.put(key, b"", durable=durable)
    assert (blobs.get(key), blobs.size(key), blobs.read(key, 0, 9)) == (b"", 0, b"")
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


def test_what_is_above_or_below_a_blob_is_none(blobs: BlobStore) -> None:
    blobs.put("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(BlobMissing):
            blobs.get(key)
    blobs.delete("a/b/c")
    assert blobs.get("a/b") == b"x"


def test_a_prefix_is_cleared_of_what_is_not_kept(blobs: BlobStore) -> None:
    for key in ("j/1/a", "j/1/b", "j/1/c", "j/12/a", "i/1/a"):
        blobs.put(key, b"x")
    blobs.clear("j/1", keep=("j/1/b",))
    blobs.clear("j/2")
    left = []
    for key in ("j/1/a", "j/1/b", "j/1/c", "j/12/a", "i/1/a"):
        with suppress(BlobMissing):
            blobs.get(key)
            left.append(key)
    assert left == ["j/1/b", "j/12/a", "i/1/a"]
    blobs.clear("j/1")
    with pytest.raises(BlobMissing):
        blobs.size("j/1/b")


def test_a_large_blob_comes_back(blobs: BlobStore) -> None:
    data = random.Random(7).randbytes(9 * 2**20)
    for _ in range(2):
        blobs.put("checkpoints/large", data)
    assert blobs.size("checkpoints/large") == len(data)
    assert blobs.get("checkpoints/large") == data
    assert blobs.read("checkpoints/large", 2**23 - 5, 10) == data[2**23 - 5 : 2**23 + 5]


def test_a_directory_is_no_place_for_a_blob_below_another(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    blobs.put("a/b", b"x")
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
