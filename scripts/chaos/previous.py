"""The previous release out of git's history, as processes beside those of a run."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.chaos.world import World

REPOSITORY = Path(__file__).resolve().parents[2]
PINNED = "9759e930a94c9d3c4f60bab1b450d2898e81b87f"
"""While there is no release: a version that made today's tables."""
FOLDERS = ("autoscaling", "deployments", "dispatch", "engine", "jobs", "scripts", "serve_app")
_MEMBER = "scripts/chaos/member.py"


class HistoryMissing(RuntimeError):
    """This copy of the project comes without the commit; the message says which."""


def previous_release() -> str:
    """The newest tag before this commit, or the pinned one. Raises HistoryMissing."""
    tagged = _git("describe", "--tags", "--abbrev=0", "HEAD^")
    release = tagged.stdout.decode().strip() if tagged.returncode == 0 else PINNED
    if _git("cat-file", "-e", f"{release}^{{commit}}").returncode:
        raise HistoryMissing(f"git has no commit {release} here (a shallow clone?)")
    return release


@contextmanager
def code_of(release: str) -> Iterator[Path]:
    """A folder with the code of a release."""
    there = _git("ls-tree", "--name-only", release).stdout.decode().split()
    archive = _git("archive", release, *(name for name in FOLDERS if name in there))
    folder = Path(tempfile.mkdtemp(prefix="mp-previous-"))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(folder, filter="data")
        if not (folder / _MEMBER).exists():  # from before there was one
            shutil.copy(REPOSITORY / _MEMBER, folder / _MEMBER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Previous:
    """The previous release in a world: it shares the ledger, the blobs, the clock and the logs, and
    has decoders of its own, since they speak a language of their own."""

    code: Path
    world: World

    def prepare(self) -> None:
        """Make its folder, and the ledger's tables as that release makes them."""
        self.folder.mkdir()
        for shared in ("blobs", "passes", "told", "clock", "stop"):
            (self.folder / shared).symlink_to(f"../{shared}")
        made = self.start("ledger", "0")
        made.join(60.0)
        if made.exitcode != 0:
            raise RuntimeError(f"the previous release made no ledger: exit code {made.exitcode}")

    @property
    def folder(self) -> Path:
        """Its view of the world."""
        return self.world.folder / "previous"

    def start(self, role: str, name: str) -> PreviousProcess:
        """One process."""
        command = [sys.executable, "-m", "scripts.chaos.member", role, name]
        command += [str(self.folder), self.world.url]
        with (self.folder / "stderr").open("ab") as errors:
            return PreviousProcess(subprocess.Popen(command, cwd=self.code, stderr=errors))


class PreviousProcess:
    """As a crew knows its processes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid: int | None = process.pid

    @property
    def exitcode(self) -> int | None:
        """None while it runs; -N when signal N ended it."""
        return self._process.poll()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, and no longer than that."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, check=False)
