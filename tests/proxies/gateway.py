"""A gateway as a process of its own, over the ledger and the pictures of a folder: to be killed.

`python -m tests.proxies.gateway FOLDER PORT`; it also ends with its standard input.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import uvicorn

from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.sql.sql_ledger import SqlLedger
from serve_app.access.connections import ClientConnection
from serve_app.config.cluster import parse_cluster_config
from serve_app.gateway import create_app
from tests.page.pipeline import CONFIG

GATEWAY = {"trusted_proxies": ["127.0.0.1"]}
LIMITS = {"unauthenticated_per_second": 0.001}  # one, and no other as long as a test lasts


def main(folder: Path, port: int) -> None:
    """Serve until killed."""
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    config = parse_cluster_config({**CONFIG, "gateway": GATEWAY, "limits": LIMITS})
    ledger = SqlLedger(f"sqlite:///{folder}/ledger.db?timeout=60", tiers=config.tier_promises())
    app = create_app(AsyncLedger(ledger), DirectoryBlobs(folder / "blobs"), config)
    server = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http=ClientConnection,
        log_level="warning",
        proxy_headers=False,
    )
    uvicorn.Server(server).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
