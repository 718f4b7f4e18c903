"""`meltproof keys`: API keys and signed tokens. Works on the ledger of a config file, while the
service runs or not; running gateways see a change within two seconds."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args

from rich.table import Table

from jobs.admin_calls import audited
from jobs.ledger_errors import LedgerError
from jobs.request import Role, Tenant
from jobs.sql.accounts import PREFIX_LENGTH, Accounts, ApiKey
from jobs.sql.sql_ledger import SqlLedger
from serve_app.access.tokens import TENANT_ID, mint
from serve_app.config.cluster import ClusterConfig
from serve_app.config.errors import ConfigError
from serve_app.operate.commands.operating import lane_arguments, speaker, this_user
from serve_app.operate.ledgers import lane_of

DAY_SECONDS = 86_400
EPILOG = """\
A key is shown once, when it is made; only its hash is kept. To change a key without a gap, create
a second one and revoke the first when it is no longer used.

exit codes: 0 done; 1 the ledger does not answer or has no such key; 2 wrong arguments or config"""


def main(arguments: Sequence[str]) -> int:
    """Do one thing to the keys; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        config = lane_of(options.config, options.application)
        return _token(config, options) if options.action == "token" else _keys(config, options)
    except (ConfigError, ValueError) as error:
        return _complain(error, 2)
    except LedgerError as error:
        return _complain(error, 1)


def _keys(config: ClusterConfig, options: argparse.Namespace) -> int:
    ledger = SqlLedger(config.ledger.dsn)
    try:
        if options.action == "list":
            speaker().print(_table(ledger.accounts.keys(options.tenant)))
            return 0
        with audited(ledger, this_user(), *_done_to(options)):
            return _act(ledger.accounts, config, options)
    finally:
        ledger.close()


def _done_to(options: argparse.Namespace) -> tuple[str, str]:
    """Action and target, as they are logged: of a key never more than names it."""
    if options.action == "create":
        role = " --role operator" * (options.role == "operator")
        return f"keys create{role}", options.tenant
    return f"keys {options.action}", options.prefix[:PREFIX_LENGTH]


def _act(accounts: Accounts, config: ClusterConfig, options: argparse.Namespace) -> int:
    match options.action:
        case "create":
            owner = _owner(config, options)
            _say(accounts.create(owner.id, owner.tier, owner.role))
        case "rotate":
            _say(accounts.rotate(options.prefix))
        case _:
            accounts.revoke(options.prefix)
            speaker(stderr=True).print(f"{options.prefix} opens nothing any more")
    return 0


def _token(config: ClusterConfig, options: argparse.Namespace) -> int:
    secrets = config.signing_secrets()
    if not secrets:
        raise ConfigError(f"{options.config}: signing: is missing, it holds what signs tokens")
    key_id, secret = next(iter(secrets.items()))
    expires_at = time.time() + options.days * DAY_SECONDS
    owner, audience = _owner(config, options), config.audiences().get(key_id)
    if owner.role == "operator" and key_id not in config.operator_signers():
        raise ConfigError(f"--role: signing key {key_id!r} needs `operators: true` for that")
    _say(mint(owner, expires_at, key_id, secret, audience))
    return 0


def _owner(config: ClusterConfig, options: argparse.Namespace) -> Tenant:
    if options.tier not in config.tiers:
        known = ", ".join(sorted(config.tiers))
        raise ConfigError(f"--tier: unknown tier {options.tier!r}, known: {known}")
    if not TENANT_ID.fullmatch(options.tenant):
        raise ConfigError("TENANT: 1 to 128 letters, digits and any of . _ : @ + -")
    return Tenant(options.tenant, options.tier, options.role)


def _table(keys: list[ApiKey]) -> Table:
    table = Table("key", "tenant", "tier", "role", "created", "last rotated", "revoked", box=None)
    for key in keys:
        moments = (_day(at) for at in (key.created_at, key.rotated_at, key.revoked_at))
        table.add_row(f"{key.prefix}...", key.tenant, key.tier, key.role, *moments)
    return table


def _day(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}Z"


def _say(secret: str) -> None:
    """Alone on standard output, so that a script can take it."""
    sys.stdout.write(f"{secret}\n")


def _complain(error: Exception, exit_code: int) -> int:
    speaker(stderr=True).print(str(error))
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof keys",
        description="Make, list, rotate and revoke API keys; mint signed tokens.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = lane_arguments("ledger, tiers and signing secrets")
    actions = parser.add_subparsers(dest="action", required=True)
    owned = argparse.ArgumentParser(add_help=False)
    owned.add_argument("tenant", metavar="TENANT")
    owned.add_argument("--tier", default="free", help="the tier of the file (default free)")
    owned.add_argument("--role", choices=get_args(Role), default="tenant", help="default tenant")
    actions.add_parser("create", parents=[owned, common], help="make a key and show it, once")
    listing = actions.add_parser("list", parents=[common], help="show every key but its secret")
    listing.add_argument("tenant", metavar="TENANT", nargs="?", help="only this one's")
    for action, what in (("rotate", "put another key in its place"), ("revoke", "end a key")):
        named = actions.add_parser(action, parents=[common], help=what)
        named.add_argument("prefix", metavar="PREFIX", help="as `list` shows it")
    token = actions.add_parser("token", parents=[owned, common], help="sign a token for a tenant")
    token.add_argument("--days", type=float, default=30, help="how long it is good (default 30)")
    return parser
