"""What only a bucket can do: be missing, forbid, be away, keep its first writer, and sign URLs."""

from __future__ import annotations

import secrets
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from jobs.blobs.marker import StoreNotShared
from jobs.blobs.opening import check_store
from jobs.blobs.places import S3Place
from jobs.blobs.s3 import S3Blobs
from jobs.blobs.store import BlobMissing, StoreUnavailable
from jobs.sql.sql_ledger import SqlLedger
from scripts.servers.seaweedfs import KEYS, SeaweedFS
from serve_app.__main__ import main
from serve_app.config.blobs import S3Section
from serve_app.config.errors import ConfigError
from serve_app.config.ledger_check import check_blobs


def place(server: SeaweedFS, user: str = "writer", **more: Any) -> S3Place:
    fields = {"prefix": secrets.token_hex(8), **more}
    return S3Section(**server.section(user, **fields)).place()


def test_a_bucket_that_can_be_used_is_left_as_it_was(seaweedfs: SeaweedFS) -> None:
    ours = place(seaweedfs)
    check_blobs(ours)
    check_blobs(ours)
    S3Blobs(ours).put("a", b"x")
    check_blobs(ours)


@pytest.mark.parametrize(
    ("user", "changes", "said"),
    [
        ("writer", {"bucket": "absent"}, "blobs.s3.bucket: there is no bucket 'absent' at http"),
        ("reader", {}, "blobs.s3.bucket: 'pictures' forbids writing: AccessDenied"),
        ("writer", {"endpoint": "http://127.0.0.1:1"}, "blobs.s3.endpoint: "),
        ("writer", {"secret_access_key_file": "/nowhere"},
         "blobs.s3.secret_access_key_file: /nowhere: No such file or directory"),
    ],
)  # fmt: skip
def test_a_bucket_that_cannot_be_used_is_refused_by_field(
    seaweedfs: SeaweedFS, user: str, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_blobs(place(seaweedfs, user, **changes))
    assert str(refused.value).startswith(said)
    assert not any(secret in str(refused.value) for _, secret in KEYS.values())


def test_a_wrong_key_is_refused(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    with pytest.raises(ConfigError, match="forbids reading: SignatureDoesNotMatch"):
        check_blobs(place(seaweedfs, secret_access_key_file=str(tmp_path / "wrong")))


def test_of_several_writers_the_first_stays(seaweedfs: SeaweedFS) -> None:
    """A retry whose first try came through, and a holder that was late."""
    blobs = S3Blobs(place(seaweedfs))
    bodies = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda body: blobs.put("images/1", body), bodies))
    first = blobs.get("images/1")
    assert first in bodies
    for body in bodies:
        blobs.put("images/1", body)
    assert blobs.get("images/1") == first


def test_a_signed_url_opens_one_picture_for_a_while(seaweedfs: SeaweedFS) -> None:
    assert S3Blobs(place(seaweedfs)).link("images/1.png", "GET", 60) is None, "not configured"
    blobs = S3Blobs(place(seaweedfs, downloads="redirect"))
    blobs.put("images/1.png", b"picture")
    blobs.put("images/2.png", b"another")
    url = blobs.link("images/1.png", "GET", 60)
    assert url is not None
    got = httpx.get(url)
    assert (got.status_code, got.content) == (200, b"picture")
    assert got.headers["content-type"] == "image/png"
    part = httpx.get(url, headers={"range": "bytes=2-3"})
    assert (part.status_code, part.content) == (206, b"ct")
    assert httpx.get(url.replace("1.png", "2.png")).status_code == 403


def test_a_bucket_of_another_ledger_is_refused(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    ours, theirs = place(seaweedfs), place(seaweedfs)
    ledgers = [SqlLedger(f"sqlite:///{tmp_path / name}") for name in ("ours.db", "theirs.db")]
    for ledger, one in zip(ledgers, (ours, theirs), strict=True):
        check_store(ledger, one)
        check_store(ledger, one)
    with pytest.raises(
        StoreNotShared, match=rf"^blobs.s3: s3://pictures/{theirs.prefix} is marked"
    ):
        check_store(ledgers[0], theirs)
    for ledger in ledgers:
        ledger.close()


def test_a_server_that_dies_is_away_and_comes_back_with_all(
    tmp_path: Path, seaweedfs: SeaweedFS
) -> None:
    ours = place(seaweedfs)
    blobs, ledger = S3Blobs(ours), SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    check_store(ledger, ours)
    blobs.put("images/1", b"picture")
    seaweedfs.stop(signal.SIGKILL)
    try:
        for call in (
            lambda: blobs.put("images/2", b"x"),
            lambda: blobs.get("images/1"),
            lambda: blobs.size("images/1"),
            lambda: blobs.read("images/1", 0, 1),
            lambda: blobs.delete("images/1"),
            lambda: blobs.clear("images"),
        ):
            with pytest.raises(StoreUnavailable):
                call()
        check_store(ledger, ours)  # a replica starts nevertheless
    finally:
        seaweedfs.start()
    assert blobs.get("images/1") == b"picture"
    with pytest.raises(BlobMissing):
        blobs.get("images/2")
    ledger.close()


def test_meltproof_check_tries_the_bucket(
    seaweedfs: SeaweedFS, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(Path("configs/laptop.yaml").read_text())
    args = document["applications"][0]["args"]
    codes = []
    for name in ("pictures", "absent"):
        args["blobs"] = {"s3": seaweedfs.section(bucket=name)}
        args["provenance"] = {"directory": str(tmp_path)}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
        codes.append(main(["check", str(tmp_path / "config.yaml"), "--cpus", "64"]))
    said = capsys.readouterr().out
    assert codes == [0, 1], said
    assert "applications.0.args.blobs.s3.bucket: there is no bucket 'absent'" in said
