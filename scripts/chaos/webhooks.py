"""Webhooks in a run: endpoints for half of the tenants, processes that deliver as gateways do, and
a receiver that takes some deliveries, refuses some, and hangs with some. What it has taken, it
writes down, once the official SDK has verified it; that record is what the auditor believes."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from openai import InvalidWebhookSignatureError, OpenAI

from deployments.metrics.recorder import Metrics
from jobs.client.async_ledger import AsyncLedger
from jobs.ledger_errors import LedgerUnavailable
from jobs.sql.sql_ledger import SqlLedger
from jobs.webhooks import IMAGE_EVENTS, DeliveryState, new_endpoint
from scripts.chaos.clients import TENANTS
from scripts.chaos.world import HOUR, TIERS, World
from serve_app.config.webhooks import WebhooksSection
from serve_app.webhooks.deliveries import Deliveries

SECTION = WebhooksSection(
    networks=("127.0.0.0/8",), seconds=2.0, retry_seconds=1e9, disable_seconds=1e9
)
"""Clocks jump by hours here, which is no reason to give up."""
DELIVERERS = 2
REFUSED, HUNG = 0.2, 0.02
"""Shares of what comes to the receiver."""
HANG_SECONDS = 3.0
PATIENCE_SECONDS = 120.0
TICKS, TICK_SECONDS = 15, 0.1


def subscribe(world: World) -> None:
    """An endpoint for every second tenant, and a port for the receiver of all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tenants = [f"{tier}-{number}" for tier in TIERS for number in range(0, TENANTS, 2)]
    with closing(world.ledger()) as ledger:
        made = [
            ledger.add_endpoint(
                new_endpoint(one, "chaos", f"http://127.0.0.1:{port}/{one}", IMAGE_EVENTS), 1
            )
            for one in tenants
        ]
    secrets = {one.tenant: one.secret for one in made}
    _file(world).write_text(json.dumps({"port": port, "secrets": secrets}))


def subscribed(world: World) -> bool:
    """Whether `subscribe` was called."""
    return _file(world).exists()


def deliver(world: World) -> None:
    """What a gateway does for webhooks, until it is killed."""
    world.speak()
    asyncio.run(_deliver(world))


async def _deliver(world: World) -> None:
    ledger = AsyncLedger(await asyncio.to_thread(world.ledger))
    await Deliveries(ledger, lambda: SECTION, Metrics()).run()


def receive(world: World) -> None:
    """Until it is killed, by which what it had in hand is not taken."""
    world.speak()
    said = json.loads(_file(world).read_text())
    with _server(world, said["port"], said["secrets"]) as server:
        server.serve_forever()


def _server(world: World, port: int, secrets: dict[str, str]) -> ThreadingHTTPServer:
    log, draw = world.log("received"), random.Random(time.monotonic_ns())
    sdk = OpenAI(api_key="none")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            chance = draw.random()
            if chance < HUNG:
                time.sleep(HANG_SECONDS)
            if chance < REFUSED:
                self._answer(503)
                return
            tenant = self.path.removeprefix("/")
            try:
                event = sdk.webhooks.unwrap(body, dict(self.headers), secret=secrets[tenant])
            except (InvalidWebhookSignatureError, KeyError, ValueError) as error:
                log.note("forged", error=repr(error), tenant=tenant)
                self._answer(400)
                return
            read: dict[str, Any] = event.to_dict()
            log.note("received", tenant=tenant, id=read["id"], type=read["type"],
                     job=read["data"]["id"])  # fmt: skip
            self._answer(204)

        def _answer(self, status: int) -> None:
            with suppress(OSError):
                self.send_response(status)
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    return Server(("127.0.0.1", port), Handler)


def received(world: World) -> Iterator[dict[str, Any]]:
    """Everything that the receiver wrote down."""
    for path in sorted((world.folder / "received").iterdir()):
        for line in path.read_text().splitlines():
            yield json.loads(line)


def come_to_rest(world: World, tend: Callable[[], None]) -> None:
    """Until all deliveries are made, or patience is at its end: what was refused waits for hours of
    the clock, which pass. tend: is called often."""
    until = time.monotonic() + PATIENCE_SECONDS
    with closing(world.ledger()) as ledger:
        while time.monotonic() < until:
            for _ in range(TICKS):
                tend()
                time.sleep(TICK_SECONDS)
            with suppress(LedgerUnavailable):
                if not _waiting(ledger):
                    return
            world.jump(HOUR)


def _waiting(ledger: SqlLedger) -> bool:
    wanted = DeliveryState.WAITING
    return any(
        ledger.deliveries(one.tenant, one.id, wanted, 1) for one in ledger.endpoints(None, 1000)
    )


def _file(world: World) -> Path:
    return world.folder / "webhooks.json"
