"""`meltproof webhooks`: endpoints of tenants, and deliveries that were given up. Works on the
ledger of a config file; the gateways of the running service deliver."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime

from rich.table import Table

from jobs.admin_calls import audited
from jobs.ledger_errors import LedgerError
from jobs.sql.sql_ledger import SqlLedger
from jobs.webhooks import (
    EVENT_TYPES,
    Delivery,
    DeliveryState,
    EndpointChange,
    WebhookEndpoint,
    new_endpoint,
    sample_event,
)
from serve_app.access.tokens import TENANT_ID
from serve_app.config.cluster import ClusterConfig
from serve_app.config.errors import ConfigError
from serve_app.operate.commands.operating import a_number, lane_arguments, speaker, this_user
from serve_app.operate.ledgers import lane_of
from serve_app.operate.status_view import printable
from serve_app.webhooks.sending import BadUrl, check_url
from serve_app.wire.webhook_endpoints import in_order

PAGE = 500
LAST = 20
LOOK_SECONDS = 0.1
EPILOG = """\
The signing secret is shown once, when an endpoint is added. `test` sends a sample event through the
running gateways and waits for what the endpoint answers. A delivery is given up (dead) after three
days of tries.

exit codes: 0 done; 1 the ledger does not answer, or the endpoint did not take the sample; 2 wrong
arguments or config, or no such endpoint"""


def main(arguments: Sequence[str]) -> int:
    """Do one thing to the webhooks; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        config = lane_of(options.config, options.application)
        with closing(SqlLedger(config.ledger.dsn)) as ledger:
            return _act(ledger, config, options)
    except (ConfigError, BadUrl, ValueError) as error:
        speaker(stderr=True).print(str(error))
        return 2
    except LedgerError as error:
        speaker(stderr=True).print(str(error))
        return 1


def _act(ledger: SqlLedger, config: ClusterConfig, options: argparse.Namespace) -> int:
    if options.action == "list":
        _list(ledger, options)
        return 0
    if options.action == "add":
        with audited(ledger, this_user(), "webhooks add", options.tenant):
            _add(ledger, config, options)
        return 0
    endpoint = _found(ledger, options.id)
    with audited(ledger, this_user(), f"webhooks {options.action}", endpoint.id):
        return _act_on(ledger, endpoint, options)


def _act_on(ledger: SqlLedger, endpoint: WebhookEndpoint, options: argparse.Namespace) -> int:
    say = speaker(stderr=True).print
    match options.action:
        case "remove":
            ledger.drop_endpoint(endpoint.tenant, endpoint.id)
            say(f"{endpoint.id} is forgotten, and what waited for it")
        case "enable":
            ledger.change_endpoint(endpoint.tenant, endpoint.id, EndpointChange(enabled=True))
            say(f"{endpoint.id} is told again, and gets what waited for it")
        case "redeliver":
            count = ledger.redeliver(endpoint.tenant, endpoint.id, options.event)
            if options.event is not None and not count:
                raise ConfigError(f"{endpoint.id} has no delivery {options.event}")
            say(f"{count} deliveries are made again")
        case _:
            return _test(ledger, endpoint, options)
    return 0


def _add(ledger: SqlLedger, config: ClusterConfig, options: argparse.Namespace) -> None:
    if not TENANT_ID.fullmatch(options.tenant):
        raise ConfigError("TENANT: 1 to 128 letters, digits and any of . _ : @ + -")
    try:
        check_url(options.url, config.webhooks)
    except BadUrl as problem:
        raise ConfigError(f"URL: {problem}") from None
    made = new_endpoint(options.tenant, options.name, options.url, in_order(options.events))
    stored = ledger.add_endpoint(made, config.webhooks.endpoints)
    speaker(stderr=True).print(f"{stored.id} tells {options.tenant}; its signing secret:")
    sys.stdout.write(f"{stored.secret}\n")  # alone there, so that a script can take it


def _test(ledger: SqlLedger, endpoint: WebhookEndpoint, options: argparse.Namespace) -> int:
    say, event = speaker(stderr=True).print, sample_event(endpoint.tenant, options.event)
    if endpoint.disabled_at is not None:
        raise ConfigError(f"{endpoint.id} is disabled: {endpoint.disabled_reason}; enable it first")
    ledger.queue_event(endpoint, event)
    deadline = time.monotonic() + options.wait
    while time.monotonic() < deadline:
        told = ledger.deliveries(endpoint.tenant, endpoint.id, None, PAGE)
        one = next((one for one in told if one.event == event.id), None)
        if one is not None and one.state is DeliveryState.DELIVERED:
            say(f"{endpoint.id} answered {one.status_code}")
            return 0
        if one is not None and one.error is not None:
            say(f"{endpoint.id}: {one.error}; it is tried again")
            return 1
        time.sleep(LOOK_SECONDS)
    say(f"{event.id} has not been tried in {options.wait:g} s: is a gateway running?")
    return 1


def _list(ledger: SqlLedger, options: argparse.Namespace) -> None:
    found = [*_all(ledger, options.tenant)]
    if options.dead:
        dead = [
            delivery
            for one in found
            for delivery in ledger.deliveries(
                one.tenant, one.id, DeliveryState.DEAD, int(options.last)
            )
        ]
        speaker().print(_dead_table(dead) if dead else "no delivery is given up")
    else:
        speaker().print(_table(found) if found else "there is no webhook endpoint")


def _all(ledger: SqlLedger, tenant: str | None) -> Iterator[WebhookEndpoint]:
    page = ledger.endpoints(tenant, PAGE)
    while page:
        yield from page
        page = ledger.endpoints(tenant, PAGE, page[-1].id)


def _found(ledger: SqlLedger, endpoint_id: str) -> WebhookEndpoint:
    for one in _all(ledger, None):
        if one.id == endpoint_id:
            return one
    raise ConfigError(f"{endpoint_id}: there is no such endpoint; `meltproof webhooks list`")


def _table(found: Sequence[WebhookEndpoint]) -> Table:
    table = Table("endpoint", "tenant", "name", "url", "events", "created", "state", box=None)
    for one in found:
        state = f"disabled: {one.disabled_reason}" if one.disabled_at is not None else "enabled"
        if one.disabled_at is None and one.failing_since is not None:
            state = f"fails since {_at(one.failing_since)}"
        events = "all" if len(one.event_types) == len(EVENT_TYPES) else " ".join(one.event_types)
        cells = (one.id, one.tenant, one.name, one.url, events, _at(one.created_at), state)
        table.add_row(*map(printable, cells))
    return table


def _dead_table(dead: Sequence[Delivery]) -> Table:
    table = Table("endpoint", "event", "type", "about", "created", "tries", "error", box=None)
    for one in dead:
        about = ", ".join(one.data.values())
        cells = (one.endpoint, one.event, one.type, about, _at(one.created_at))
        table.add_row(*map(printable, (*cells, str(one.attempts), one.error or "")))
    return table


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}Z"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof webhooks",
        description="Add, list, test, enable and remove webhook endpoints; deliver again.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = lane_arguments("ledger and `webhooks` section")
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", parents=[common], help="make an endpoint, show its secret once")
    add.add_argument("tenant", metavar="TENANT")
    add.add_argument("url", metavar="URL")
    add.add_argument("--name", default="webhook", help="for people (default webhook)")
    every = f"which events (default all): {', '.join(EVENT_TYPES)}"
    add.add_argument(
        "--events", nargs="+", choices=EVENT_TYPES, default=EVENT_TYPES, metavar="TYPE", help=every
    )
    listing = actions.add_parser("list", parents=[common], help="show endpoints, or what is dead")
    listing.add_argument("tenant", metavar="TENANT", nargs="?", help="only this one's")
    listing.add_argument("--dead", action="store_true", help="deliveries that were given up")
    listing.add_argument("--last", type=a_number(1), default=LAST, metavar="N",
                         help=f"of each endpoint (default {LAST})")  # fmt: skip
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("id", metavar="ENDPOINT", help="as `list` shows it")
    for action, what in (
        ("remove", "forget an endpoint and its deliveries"),
        ("enable", "tell a disabled endpoint again"),
    ):
        actions.add_parser(action, parents=[named, common], help=what)
    what = "deliver one event again, or all that were given up"
    again = actions.add_parser("redeliver", parents=[named, common], help=what)
    again.add_argument("event", metavar="EVENT", nargs="?", help="as `list --dead` shows it")
    test = actions.add_parser("test", parents=[named, common], help="send a sample event")
    test.add_argument("--event", choices=EVENT_TYPES, default=EVENT_TYPES[0], metavar="TYPE")
    test.add_argument("--wait", type=a_number(0), default=30.0, metavar="SECONDS",
                      help="for the answer (default 30)")  # fmt: skip
    return parser
