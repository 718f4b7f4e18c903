"""One gateway in a process of its own: `python -m scripts.batch.gateway DIRECTORY PORT`. Says
`ready`, and ends when its standard input does."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import uvicorn

from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.cluster import ClusterConfig, parse_cluster_config
from serve_app.gateway import create_app

KEY = "sk-bench"
PASSES = 24


def config() -> ClusterConfig:
    """One tenant without limits, and the paced model."""
    return parse_cluster_config(
        {
            "model": {"name": "paced", "family": "paced", "size": "128x128", "pass_seconds": 0.03},
            "qualities": {"medium": PASSES},
            "tiers": {"free": {}},
            "keys": [{"key": KEY, "tenant": "bench"}],
            "limits": {"polls_per_second": 1e6},
        }
    )


def open_ledger(directory: Path) -> SqlLedger:
    """One more client of the bench's database."""
    return SqlLedger(f"sqlite:///{directory}/ledger.db", tiers=config().tier_promises())


async def serve(directory: Path, port: int) -> None:
    """Until told to end."""
    ledger = AsyncLedger(open_ledger(directory))
    app = create_app(ledger, DirectoryBlobs(directory / "blobs"), config())
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await running
    ledger.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
    os._exit(0)
