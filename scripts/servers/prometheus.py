"""A Prometheus of its own, which scrapes and judges as a config file of ours says."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from scripts.children import await_start
from serve_app.operate.local_cluster import end_with_parent, free_port

START_SECONDS = 60.0


class PrometheusMissing(RuntimeError):
    """The server's program is not installed; the message says what to install."""


class QueryFailed(RuntimeError):
    """Prometheus refuses an expression; the message says why."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """url: of its API."""

    url: str
    client: httpx.Client

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that it has now; QueryFailed."""
        asked = {"query": expression}
        answer = self.client.post(f"{self.url}/api/v1/query", data=asked)
        found = answer.json()
        if found["status"] != "success":
            raise QueryFailed(f"{expression}: {found['error']}")
        result = found["data"]["result"]
        return result if found["data"]["resultType"] == "vector" else [{"value": result}]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes, with the health of each."""
        answer = self.client.get(f"{self.url}/api/v1/targets")
        targets: list[dict[str, Any]] = answer.json()["data"]["activeTargets"]
        return targets


@contextmanager
def prometheus(folder: Path, config: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Up while the block runs, on loopback. config: as in a prometheus.yml whose rule files are
    absolute. folder: where its data and its log go. PrometheusMissing, TimeoutError."""
    program = shutil.which("prometheus", path="/usr/bin:/usr/local/bin")
    if program is None:
        raise PrometheusMissing("Prometheus is not installed (apt-get install prometheus)")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(dict(config)))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=end_with_parent)
    try:
        ready = partial(_is_ready, f"http://{address}/-/ready")
        await_start("Prometheus", server, ready, folder / "server.log", START_SECONDS)
        with httpx.Client(timeout=30, trust_env=False) as client:
            yield Prometheus(f"http://{address}", client)
    finally:
        server.terminate()
        server.wait()


def _is_ready(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2, trust_env=False).is_success
    return False
