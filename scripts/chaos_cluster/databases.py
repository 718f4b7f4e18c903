"""The ledger's database beside the cluster, where the nodes reach it by network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.chaos_cluster.network import HERE, PREFIX
from scripts.postgres import LocalPostgres
from scripts.servers.patroni import PatroniCluster


@dataclass(frozen=True, slots=True)
class Database:
    """url: what `ledger.dsn` takes. members: a leader and its synchronous standby; None: one server
    that is never killed."""

    url: str
    members: PatroniCluster | None = None

    def kill_leader(self) -> tuple[str, float]:
        """Its name, and when it was killed, in seconds since the epoch. RuntimeError when there is
        no other one."""
        if self.members is None:
            raise RuntimeError("there is one database server alone: nothing takes its place")
        name = self.members.await_leader()
        at = time.time()
        self.members.kill(name)
        return name, at

    def restore(self, name: str) -> None:
        """Start a killed member again, and wait until it confirms each commit."""
        assert self.members is not None
        self.members.start(name)
        self.members.await_standby()


@contextmanager
def database(folder: Path, *, patroni: bool) -> Iterator[Database]:
    """Under Patroni, or one server alone. folder: where it is made; others may pass through it."""
    if patroni:
        with PatroniCluster(folder, HERE) as members:
            yield Database(members.url(), members)
    else:
        yield from _alone(folder)


def _alone(folder: Path) -> Iterator[Database]:
    access = folder / "pg_hba.conf"
    access.write_text(f"local all all trust\nhost all all {PREFIX}.0/24 trust\n")
    access.chmod(0o644)
    settings = {
        "listen_addresses": HERE,
        "hba_file": str(access),
        "max_connections": "300",
    }
    with LocalPostgres(settings, folder):
        yield Database(f"postgresql://postgres@{HERE}/postgres")
