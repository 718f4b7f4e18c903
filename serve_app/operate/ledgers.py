"""The ledgers of a config file, for the commands of an operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.cluster import ClusterConfig
from serve_app.config.errors import ConfigError
from serve_app.config.serve_file import load_serve_config, parse_serve_config


@contextmanager
def ledgers_of(path: str) -> Iterator[list[SqlLedger]]:
    """Each once, with what its file promises to tiers: what is given back depends on it. Raises
    ConfigError, LedgerUnavailable."""
    lanes = {
        one.args.ledger.dsn: one.args
        for one in parse_serve_config(load_serve_config(path), path).applications
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                closing(SqlLedger(dsn, tiers=lane.tier_promises(), days=lane.quota.days()))
            )
            for dsn, lane in lanes.items()
        ]


def lane_of(path: str, application: str | None) -> ClusterConfig:
    """Of the file's application of that name with a gateway; of the first one for None. Raises
    ConfigError."""
    applications = parse_serve_config(load_serve_config(path), path).applications
    found = [one for one in applications if one.has_gateway]
    for one in found:
        if application in (None, one.name):
            return one.args
    names = ", ".join(one.name for one in found)
    raise ConfigError(f"{path}: --application: there is no {application!r}, but: {names}")


def queue_of(path: str, model: str) -> str:
    """The queue of a model of the file. Raises ConfigError."""
    lanes = [
        each
        for one in parse_serve_config(load_serve_config(path), path).applications
        for each in one.args.each()
    ]
    for lane in lanes:
        if lane.model.name == model:
            return lane.queue
    names = ", ".join(lane.model.name for lane in lanes)
    raise ConfigError(f"{path}: has no model {model!r}, but: {names}")
