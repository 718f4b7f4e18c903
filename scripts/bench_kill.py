"""`python -m scripts.bench_kill`: kill decoder replicas under load, then count what was lost.

Every kill is a SIGKILL of a running replica's process while the others draw. Afterwards the ledger
and the answers are checked: every accepted job succeeded, each image settled once, and pictures
equal those of an undisturbed run. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from jobs.job import SETTLED, JobState
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench.sides import KEY, args_of, own_config
from scripts.bench.workload import body
from serve_app.config.cluster import environment
from serve_app.config.serve_file import load_serve_config
from serve_app.operate.local_cluster import LocalCluster, descendants

REPLICAS = 2
WAIT_SECONDS = 300.0
SAMPLE = 16
_SETTLED = ", ".join(f"'{state}'" for state in sorted(SETTLED))
AUDIT = f"""
create table settled_audit (job_id text, idx integer, state text);
create trigger settled_audit after update of state on renders when new.state in ({_SETTLED})
begin insert into settled_audit values (new.job_id, new.idx, new.state); end;
"""
"""Counts settlings beside the ledger, by the database itself, so that the ledger is not asked
whether the ledger is right."""


@dataclass(slots=True)
class Load:
    """Synchronous clients in a closed loop. digests: seed -> the picture's sha256.
    wrong: seed -> the answer that
    brought no picture."""

    url: str
    digests: dict[int, str] = field(default_factory=dict)
    wrong: dict[int, str] = field(default_factory=dict)
    stop: bool = False
    _next: int = 0

    async def run(self, clients: int) -> None:
        """Until `stop`; everything that was sent is waited for."""
        async with self._http() as http, asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client(http))

    async def draw(self, seeds: list[int]) -> dict[int, str]:
        """The pictures of these seeds again, one after another."""
        async with self._http() as http:
            return {seed: await self._draw(http, seed) for seed in seeds}

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {KEY}"},
            timeout=WAIT_SECONDS,
            trust_env=False,
        )

    async def _client(self, http: httpx.AsyncClient) -> None:
        while not self.stop:
            seed, self._next = self._next, self._next + 1
            self.digests[seed] = await self._draw(http, seed)

    async def _draw(self, http: httpx.AsyncClient, seed: int) -> str:
        try:
            answer = await http.post("/v1/images/generations", json=body(seed))
        except httpx.HTTPError as error:
            self.wrong[seed] = repr(error)
            return ""
        if answer.status_code != 200:
            self.wrong[seed] = f"{answer.status_code}: {answer.text[:300]}"
            return ""
        picture: str = answer.json()["data"][0]["b64_json"]
        return hashlib.sha256(picture.encode()).hexdigest()


@dataclass(slots=True)
class Killer:
    """Kills one of the running decoder replicas whenever another one runs, `wanted` times."""

    cluster: LocalCluster
    wanted: int
    minutes: float
    killed: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Return after the last kill, or when the time is up."""
        draw, deadline = random.Random(0), time.monotonic() + 60 * self.minutes
        while len(self.killed) < self.wanted and time.monotonic() < deadline:
            running = self._running()
            if len(running) > 1:
                time.sleep(draw.uniform(0.0, 0.5))  # anywhere within its passes
                victim = draw.choice(sorted(running))
                os.kill(victim, signal.SIGKILL)
                self.killed.append(victim)
                print(f"kill {len(self.killed)}: {victim}", flush=True)
            time.sleep(0.25)

    def _running(self) -> set[int]:
        """Pids of decoder replicas that Serve calls running and that are below this process."""
        applications = self.cluster.serve.status()["applications"].values()
        replicas = [
            replica
            for application in applications
            for replica in application["deployments"]["Decoder"]["replicas"]
        ]
        pids = {r["pid"] for r in replicas if r["state"] == "RUNNING"} - set(self.killed)
        return pids & set(_decoder_processes())


def _decoder_processes() -> Iterator[int]:
    for pid in descendants(os.getpid()):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::ServeReplica:") and b":Decoder" in title:
            yield pid


def audit(ledger: Path) -> Counter[tuple[str, int]]:
    """How many times each (job, image) was settled."""
    with closing(sqlite3.connect(ledger)) as connection:
        rows = connection.execute("select job_id, idx from settled_audit").fetchall()
    return Counter((str(job_id), int(index)) for job_id, index in rows)


def install_audit(ledger: Path) -> None:
    """Let the database itself note every settling."""
    with closing(sqlite3.connect(ledger, timeout=30)) as connection, connection:
        connection.executescript(AUDIT)


def judge(ledger: Path, load: Load, again: dict[int, str]) -> dict[str, Any]:
    """What the run proves. lost: accepted jobs without their picture. doubled: images that were
    settled more than once. different: sampled pictures unlike those of an undisturbed run."""
    truth = SqlLedger(f"sqlite:///{ledger}")
    jobs = truth.recent("local", 1_000_000)
    truth.close()
    unfinished = [job for job in jobs if job.state is not JobState.SUCCEEDED]
    settled = audit(ledger)
    never = [j for j in jobs if any(not settled[(j.id, render.index)] for render in j.renders)]
    lost = {job.request.seed for job in (*unfinished, *never)} | load.wrong.keys()
    return {
        "lost": len(lost),
        "doubled": sum(times > 1 for times in settled.values()),
        "jobs": len(jobs),
        "answers": len(load.digests),
        "wrong_answers": dict(list(load.wrong.items())[:5]),
        "compared": len(again),
        "different": sum(load.digests[seed] != digest for seed, digest in again.items()),
    }


async def disturbed(load: Load, killer: Killer, clients: int) -> None:
    """Load for as long as the killer is at work."""
    loading = asyncio.create_task(load.run(clients))
    try:
        await asyncio.to_thread(killer.run)
    finally:
        load.stop = True
        await loading


def run(config: dict[str, Any], kills: int, clients: int, minutes: float) -> dict[str, Any]:
    """Start, disturb, look, stop."""
    with tempfile.TemporaryDirectory(prefix="meltproof-kill-") as folder:
        config = own_config(config, Path(folder))
        args_of(config)["decoder"]["replicas"] = REPLICAS
        ledger = Path(folder) / "ledger.db"
        cluster = LocalCluster(config, environment(), dashboard_port=0)
        try:
            cluster.start()
            install_audit(ledger)
            load, killer = Load(cluster.api_url), Killer(cluster, kills, minutes)
            asyncio.run(disturbed(load, killer, clients))
            seeds = random.Random(1).sample(sorted(load.digests), min(SAMPLE, len(load.digests)))
            again = asyncio.run(load.draw(seeds))
            return {**judge(ledger, load, again), "kills": len(killer.killed)}
        finally:
            cluster.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill decoders under load; count what was lost.")
    parser.add_argument("--config", type=Path, default=Path("configs/laptop.yaml"))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=12.0, help="stop killing after so long")
    options = parser.parse_args()
    began = time.monotonic()
    config = load_serve_config(options.config)
    found = run(config, options.kills, options.clients, options.minutes)
    found["seconds"] = round(time.monotonic() - began, 1)
    found["family"] = args_of(config)["model"].get("family", "masked")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
