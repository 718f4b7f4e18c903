"""PostgreSQL that fails over: `with PatroniCluster() as cluster`, from the Debian packages patroni,
etcd-server and postgresql. Two servers, one of them a synchronous standby, and one etcd.

All listens on one address. As root the servers run as `nobody`, because PostgreSQL refuses root.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import psycopg

from scripts.children import ClosedAtEnd
from scripts.postgres import NOBODY, die_with_parent
from serve_app.operate.local_cluster import free_ports

T = TypeVar("T")

START_SECONDS = 90.0
PASSWORD = "failover"
AGREED = {
    "ttl": 10,
    "loop_wait": 2,
    "retry_timeout": 4,
    "synchronous_mode": True,
    "postgresql": {
        "use_pg_rewind": True,
        "parameters": {"max_connections": 300, "shared_buffers": "256MB"},
    },
}
"""What all members agree on, as docs/postgresql.md explains it."""
_SEARCH = "/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class PatroniMissing(RuntimeError):
    """A program is not installed; the message says which."""


@dataclass(slots=True)
class Member:
    """One PostgreSQL server and the Patroni that runs it. Ports are of PostgreSQL and of REST."""

    name: str
    port: int
    rest_port: int
    folder: Path
    patroni: subprocess.Popen[bytes] | None = None

    @property
    def postmaster(self) -> psutil.Process | None:
        """The server's first process, which Patroni starts as none of its children."""
        with suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
            pid = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            return process if process.name().startswith("postgres") else None
        return None


class PatroniCluster(ClosedAtEnd):
    """A leader and its synchronous standby. Raises PatroniMissing, TimeoutError.

    folder: where its directory is made. host: the address to listen on. agreed: in place of parts
    of AGREED.
    """

    def __init__(
        self,
        folder: Path | None = None,
        host: str = "127.0.0.1",
        agreed: dict[str, Any] | None = None,
    ) -> None:
        self._programs = {name: _program(name) for name in ("etcd", "patroni", "postgres")}
        self._host = host
        self._agreed = {**AGREED, **(agreed or {})}
        self._root = Path(tempfile.mkdtemp(prefix="mp-patroni-", dir=folder))
        self._etcd: subprocess.Popen[bytes] | None = None
        self._etcd_ports = free_ports(2)
        ports = free_ports(4)
        self.members = {
            name: Member(name, port, rest_port, self._root / name)
            for name, port, rest_port in zip("ab", ports[:2], ports[2:], strict=True)
        }
        try:
            self._prepare()
            self._start_etcd()
            for member in self.members.values():
                self.start(member.name)
            self.await_standby()
        except BaseException:
            self.close()
            raise

    def url(self, database: str = "postgres") -> str:
        """What `ledger.dsn` takes: both servers, of which the client finds the leader."""
        hosts = ",".join(f"{self._host}:{member.port}" for member in self.members.values())
        options = "target_session_attrs=read-write&connect_timeout=2&tcp_user_timeout=2000"
        return f"postgresql://postgres:{PASSWORD}@{hosts}/{database}?{options}"

    def leader(self) -> str | None:
        """The member that takes writes now."""
        return next((name for name in self.members if self._rest(name, "leader")), None)

    def kill_leader(self) -> str:
        """SIGKILL to the leader's Patroni and to its server, all at once. Its name."""
        name = self._await("leader", self.leader)
        self.kill(name)
        return name

    def kill(self, name: str) -> None:
        """SIGKILL to a member's Patroni, which would restart its server, then to that server."""
        member = self.members[name]
        if member.patroni is not None:
            member.patroni.kill()
            member.patroni.wait()
            member.patroni = None
        if (postmaster := member.postmaster) is not None:
            below = postmaster.children(recursive=True)
            for process in (postmaster, *below):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs([postmaster, *below], 10)

    def start(self, name: str) -> None:
        """Start a member that was killed, to end with this thread. It rejoins as a standby of the
        leader, once it can."""
        member = self.members[name]
        member.patroni = self._run(
            name, [self._programs["patroni"], str(member.folder / "patroni.yaml")], signal.SIGTERM
        )

    def stop(self, name: str, how: signal.Signals) -> None:
        """SIGSTOP or SIGCONT to a member's server and to its Patroni: a machine that hangs."""
        member = self.members[name]
        if member.patroni is not None:
            member.patroni.send_signal(how)
        if (postmaster := member.postmaster) is not None:
            for process in (postmaster, *postmaster.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(how)

    def await_leader(self) -> str:
        """The member that takes writes, once there is one. TimeoutError."""
        return self._await("leader", lambda: self.leader() if self._writable() else None)

    def await_standby(self) -> None:
        """Until a standby confirms each commit, so that nothing is lost with the leader.
        TimeoutError."""
        self._await("synchronous standby", self._confirmed)

    def execute(self, statement: str) -> None:
        """One statement outside a transaction, at the leader."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        """Kill everything and delete its data."""
        for name in self.members:
            self.stop(name, signal.SIGCONT)
            self.kill(name)
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()
        shutil.rmtree(self._root, ignore_errors=True)

    def _prepare(self) -> None:
        self._root.chmod(0o711)
        for member in self.members.values():
            member.folder.mkdir()
            path = member.folder / "patroni.yaml"
            path.write_text(json.dumps(self._settings(member)))  # JSON is YAML, too
            if _user():
                for place in (member.folder, path):
                    os.chown(place, NOBODY, NOBODY)

    def _settings(self, member: Member) -> dict[str, Any]:
        users = {
            role: {"username": name, "password": PASSWORD}
            for role, name in {
                "superuser": "postgres",
                "replication": "replicator",
                "rewind": "rewinder",
            }.items()
        }
        network = f"{self._host}/32"
        return {
            "scope": "meltproof",
            "name": member.name,
            "restapi": dict.fromkeys(
                ("listen", "connect_address"), f"{self._host}:{member.rest_port}"
            ),
            "etcd3": {"host": f"{self._host}:{self._etcd_ports[0]}"},
            "bootstrap": {
                "dcs": self._agreed,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
                "pg_hba": [
                    f"host replication replicator {network} md5",
                    "host all all 0.0.0.0/0 md5",
                ],
            },
            "postgresql": {
                "listen": f"{self._host}:{member.port}",
                "connect_address": f"{self._host}:{member.port}",
                "data_dir": str(member.folder / "data"),
                "bin_dir": str(Path(self._programs["postgres"]).parent),
                "pgpass": str(member.folder / "pgpass"),
                "authentication": users,
                "parameters": {"unix_socket_directories": str(member.folder)},
            },
            "watchdog": {"mode": "off"},
        }

    def _start_etcd(self) -> None:
        client, peer = (f"http://{self._host}:{port}" for port in self._etcd_ports)
        options = {
            "name": "one",
            "data-dir": self._root / "etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"one={peer}",
        }
        command = [f"--{name}={value}" for name, value in options.items()]
        self._etcd = self._run(
            "etcd", [self._programs["etcd"], *command], signal.SIGTERM, root=True
        )

    def _run(
        self, name: str, command: list[str], end: signal.Signals, *, root: bool = False
    ) -> subprocess.Popen[bytes]:
        """It ends with this process. root: as this user."""
        with (self._root / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._root if root else self._root / name,
                env={"PATH": _SEARCH, "LANG": "C.UTF-8"},
                preexec_fn=partial(die_with_parent, end),
                **({} if root else _user()),
            )

    def _rest(self, name: str, path: str) -> bool:
        with suppress(httpx.HTTPError):
            url = f"http://{self._host}:{self.members[name].rest_port}/{path}"
            return httpx.get(url, timeout=2, trust_env=False).status_code == 200
        return False

    def _writable(self) -> bool:
        with suppress(psycopg.Error):
            psycopg.connect(self.url()).close()
            return True
        return False

    def _confirmed(self) -> bool:
        asked = "select 1 from pg_stat_replication where sync_state = 'sync'"
        with suppress(psycopg.Error), psycopg.connect(self.url()) as connection:
            return connection.execute(asked.encode()).fetchone() is not None
        return False

    def _await(self, what: str, look: Callable[[], T | None]) -> T:
        """What it finds, once that is something."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if found := look():
                return found
            time.sleep(0.2)
        logs = "\n".join(
            path.read_text(errors="replace")[-1500:] for path in self._root.glob("*.log")
        )
        raise TimeoutError(f"Patroni has no {what}: {logs}")


def _program(name: str) -> str:
    found = shutil.which(name, path=_SEARCH)
    if found is None:
        raise PatroniMissing(
            f"{name} is not installed (apt-get install patroni etcd-server postgresql-15)"
        )
    return found


def _user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}
