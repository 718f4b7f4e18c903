"""A backup that is taken while everything writes, and put back after everything is gone."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from jobs.backup.copying import back_up, restore
from jobs.backup.manifest import BackupRefused
from jobs.blobs.erasing import erase_tenant
from jobs.blobs.opening import open_store
from jobs.blobs.store import DirectoryBlobs, image_key
from jobs.db.schema import SCHEMA_VERSION
from jobs.files import INPUT
from jobs.job import JobState
from jobs.sql.accounts import key_hash
from jobs.sql.sql_ledger import SqlLedger
from scripts.servers.seaweedfs import SeaweedFS
from serve_app.__main__ import main
from serve_app.config.blobs import S3Section
from tests.stages.ledger_kit import LEASE_SECONDS, Clock, claim_one, picture, upload, wish


@dataclass
class Place:
    """A ledger and its store, and where both are put back."""

    dsn: str
    new_dsn: str
    root: Path
    store: DirectoryBlobs = field(init=False)
    new_store: DirectoryBlobs = field(init=False)

    def __post_init__(self) -> None:
        self.store = DirectoryBlobs(self.root / "blobs")
        self.new_store = DirectoryBlobs(self.root / "new-blobs")

    def back_up(self, name: str = "backup", store: DirectoryBlobs | None = None) -> Path:
        folder = self.root / name
        self.manifest = back_up(
            self.dsn, store or self.store, folder, self.root / "blobs" / ".provenance"
        )
        return folder

    def restore(self, folder: Path) -> None:
        restore(folder, self.new_dsn, self.new_store, self.root / "new-blobs" / ".provenance")

    def draw(self, ledger: SqlLedger, prompt: str = "a red fox") -> tuple[str, bytes]:
        """One job, settled; the key of its picture, and that."""
        ledger.submit(wish(prompt=prompt))
        job = claim_one(ledger)
        key, data = image_key(job.id, 0, job.fence, "png"), f"{job.id} {prompt}".encode() * 50
        self.store.put(key, data, durable=False)
        ledger.finish_render(job.id, job.fence, 0, picture(key))
        return key, data


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            dsn, new = (f"sqlite:///{tmp_path}/{name}.db" for name in ("ledger", "new"))
        else:
            server = request.getfixturevalue("postgres")
            dsn = stack.enter_context(server.database())
            new = stack.enter_context(server.database(empty=True))
        yield Place(dsn, new, tmp_path)


def unused(place: Place) -> bool:
    """Whether nothing was put back into the ledger."""
    if place.new_dsn.startswith("sqlite") and not (place.root / "new.db").exists():
        return True
    with closing(SqlLedger(place.new_dsn)) as ledger:
        return not ledger.recent("ada", 10) and not ledger.accounts.keys()


def test_what_was_settled_before_the_cut_is_there_again(place: Place) -> None:
    stopped = threading.Event()
    noted: dict[str, bytes] = {}
    uploads: dict[str, bytes] = {}

    def write() -> None:
        with closing(SqlLedger(place.dsn)) as ledger:
            while not stopped.is_set():
                key, data = place.draw(ledger)
                noted[key] = data
                file = ledger.add_file(upload(purpose=INPUT))
                place.store.put(file.blobs[0], b"upload " + key.encode(), durable=False)
                uploads[file.blobs[0]] = b"upload " + key.encode()

    writer = threading.Thread(target=write)
    with closing(SqlLedger(place.dsn)) as ledger:
        key = ledger.accounts.create("ada", "free", "operator")
        secret = ledger.accounts.url_secret()
        (place.root / "blobs" / ".provenance").mkdir()
        (place.root / "blobs" / ".provenance" / "watermark").write_bytes(b"secret of the mark")
        writer.start()
        try:
            while len(noted) < 20:
                stopped.wait(0.01)
            settled, uploaded = dict(noted), dict(uploads)
            folder = place.back_up()
            while len(noted) < len(settled) + 5:
                stopped.wait(0.01)
        finally:
            stopped.set()
            writer.join()
    assert not place.manifest.lost
    shutil.rmtree(place.root / "blobs")  # everything is gone
    place.restore(folder)

    with closing(SqlLedger(place.new_dsn)) as ledger:
        found = {
            render.blob: job.state for job in ledger.recent("ada", 1000) for render in job.renders
        }
        assert settled.keys() <= found.keys(), "every job is there that was settled before"
        assert {found[name] for name in settled} == {JobState.SUCCEEDED}
        for name in found:
            if name is not None:
                assert place.new_store.get(name) == noted[name], "and every picture that is named"
        for name, data in uploaded.items():
            assert place.new_store.get(name) == data
        assert ledger.accounts.owner(key_hash(key))[0] is not None
        assert ledger.accounts.url_secret() == secret, "signed URLs go on opening"
        newest = ledger.submit(wish(prompt="after")).job
        assert ledger.recent("ada", 1)[0].id == newest.id, "numbers go on behind the restored ones"
        assert ledger.admin_calls(1) == []
    restored = place.root / "new-blobs" / ".provenance" / "watermark"
    assert restored.read_bytes() == b"secret of the mark"


def test_jobs_in_flight_are_drawn_again(place: Place, clock: Clock) -> None:
    with closing(SqlLedger(place.dsn, clock=clock)) as ledger:
        for prompt in ("first", "second"):
            ledger.submit(wish(prompt=prompt, watched=False))
        leased = claim_one(ledger)
        folder = place.back_up()
    place.restore(folder)
    with closing(SqlLedger(place.new_dsn, clock=clock)) as ledger:
        assert claim_one(ledger).request.prompt == "second"
        for _ in range(int(4 * LEASE_SECONDS)):  # as a rescuer does
            clock.now += 1
            ledger.expire()
        again = {job.id: job for job in ledger.claim("chat", "w2", 2, LEASE_SECONDS)}
        assert again[leased.id].fence > leased.fence


def test_what_is_deleted_meanwhile_is_not_lost(place: Place) -> None:
    class Erasing(DirectoryBlobs):
        """Its first read comes just after an erasure."""

        def get(self, key: str) -> bytes:
            if erased := [name for name in pictures if "erased" in pictures[name]]:
                pictures.clear()
                erase_tenant(ledger, [place.store], "ada")
                assert erased
            return super().get(key)

    with closing(SqlLedger(place.dsn)) as ledger:
        pictures = {place.draw(ledger, "erased")[0]: "erased"}
        place.back_up(store=Erasing(place.root / "blobs"))
    assert (place.manifest.blobs, place.manifest.lost) == (0, [])


def test_what_the_store_has_lost_is_told(place: Place) -> None:
    with closing(SqlLedger(place.dsn)) as ledger:
        kept, _ = place.draw(ledger)
        lost, _ = place.draw(ledger)
        ledger.add_file(upload())  # whose client has gone before it came
    place.store.delete(lost)
    folder = place.back_up()
    assert (place.manifest.blobs, place.manifest.lost) == (1, [lost])
    place.restore(folder)
    assert place.new_store.get(kept)


def test_a_backup_goes_from_a_directory_into_a_bucket(tmp_path: Path, seaweedfs: SeaweedFS) -> None:
    place = Place(f"sqlite:///{tmp_path}/ledger.db", f"sqlite:///{tmp_path}/new.db", tmp_path)
    bucket = open_store(S3Section(**seaweedfs.section(prefix="restored")).place())
    with closing(SqlLedger(place.dsn)) as ledger:
        noted = dict(place.draw(ledger) for _ in range(3))
    restore(place.back_up(), place.new_dsn, bucket, tmp_path / "none")
    assert {key: bucket.get(key) for key in noted} == noted
    again = back_up(place.new_dsn, bucket, tmp_path / "again", tmp_path / "none")
    assert (again.blobs, again.lost) == (3, [])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def edit(path: Path, **changes: object) -> None:
    """A manifest that is right in itself."""
    said = json.loads(path.read_text()) | changes
    del said["digest"]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**said, "digest": digest}))


def biggest(folder: Path) -> Path:
    return max(folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else -1)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "unfinished": (lambda at: (at / "manifest.json").unlink(), "was not finished"),
    "no JSON": (lambda at: (at / "manifest.json").write_text("{"), "is not JSON"),
    "foreign": (lambda at: (at / "manifest.json").write_text('{"a": 1}'), "is not of a meltproof"),
    "manifest": (lambda at: flip(at / "manifest.json"), "manifest.json is damaged"),
    "newer": (
        lambda at: edit(at / "manifest.json", schema=SCHEMA_VERSION + 1),
        "restore it with the release",
    ),
    "other kind": (lambda at: edit(at / "manifest.json", database="oracle"), "is of oracle"),
    "table": (lambda at: flip(biggest(at / "ledger")), "is damaged: its digest"),
    "no table": (lambda at: biggest(at / "ledger").unlink(), "is missing"),
    "list": (lambda at: flip(at / "blobs.tsv"), "blobs.tsv is damaged"),
    "picture": (lambda at: flip(biggest(at / "blobs")), "is damaged"),
    "no picture": (lambda at: biggest(at / "blobs").unlink(), "is missing"),
}


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        *(("sqlite", damage) for damage in DAMAGES),
        ("postgresql", "table"),
        ("postgresql", "picture"),
    ],
    indirect=["place"],
)
def test_a_damaged_or_foreign_backup_is_refused(place: Place, damage: str) -> None:
    with closing(SqlLedger(place.dsn)) as ledger:
        place.draw(ledger)
        ledger.accounts.create("ada", "free")
    folder = place.back_up()
    how, why = DAMAGES[damage]
    how(folder)
    with pytest.raises(BackupRefused, match=why):
        place.restore(folder)
    assert unused(place)


def test_neither_a_backup_nor_a_ledger_is_written_over(place: Place) -> None:
    with closing(SqlLedger(place.dsn)) as ledger:
        place.draw(ledger)
    folder = place.back_up()
    assert folder.stat().st_mode & 0o077 == 0, "others may not read it"
    with pytest.raises(BackupRefused, match="is not empty"):
        place.back_up()
    place.restore(folder)
    with pytest.raises(BackupRefused, match=r"exists|is not empty"):
        place.restore(folder)


def test_the_commands_say_what_they_did(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def config(name: str, dsn: str) -> list[str]:
        document = yaml.safe_load(Path("configs/laptop.yaml").read_text())
        args = document["applications"][0]["args"]
        args["ledger"], args["blobs"] = {"dsn": dsn}, {"directory": f"{tmp_path}/{name}"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
        return ["--config", str(tmp_path / f"{name}.yaml")]

    old, new = config("blobs", place.dsn), config("new-blobs", place.new_dsn)
    folder = str(tmp_path / "backup")
    if place.dsn.startswith("sqlite"):
        assert main(["backup", folder, *old]) == 2
        assert "there is no such ledger" in capsys.readouterr().err
    with closing(SqlLedger(place.dsn)) as ledger:
        key, data = place.draw(ledger)
        ledger.store_id("an id that marks the old directory")
    assert main(["backup", folder, *old]) == 0
    assert (
        f"{folder}: the {place.new_dsn.partition(':')[0]} ledger as of" in capsys.readouterr().out
    )
    assert main(["restore", folder, *new]) == 0
    assert "1 blobs" in capsys.readouterr().out
    assert place.new_store.get(key) == data
    marker = tmp_path / "new-blobs" / ".meltproof-store"
    assert marker.read_text() == "an id that marks the old directory"
    with closing(SqlLedger(place.new_dsn)) as ledger:
        assert [call.action for call in ledger.admin_calls(5)] == ["restore", "backup"]
    assert main(["restore", folder, *new]) == 2
    place.store.delete(key)
    assert main(["backup", f"{folder}-2", *old]) == 1
    assert f"{key}: the ledger names it" in capsys.readouterr().err
