"""Recorded arrivals from a CSV file. Two kinds are read, by the header:

TIMESTAMP[,...]                      an Azure LLM inference trace: a request a row
seconds[,tenant][,tier][,images]     our own; in any order of columns
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from autoscaling.simulator.scenarios import with_tenants
from autoscaling.simulator.workload import Arrival
from jobs.tiers import Tier

IMAGES_MAX = 10
COLUMNS = ("seconds", "tenant", "tier", "images")


class TraceError(ValueError):
    """The trace cannot be used; the message names file, line and field."""


def read_trace(path: Path, tiers: Mapping[str, Tier], seed: int = 0) -> list[Arrival]:
    """Its arrivals, counted from the first one. tiers: of the config. Without a column
    of tenants or tiers, tenants of the usual skew ask, by seed. TraceError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            fields = [name.strip() for name in rows.fieldnames or ()]
            rows.fieldnames = fields
            _check_header(path, fields)
            found = list(_arrivals(path, rows, tiers))
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: not a CSV file: {error}") from None
    if not found:
        raise TraceError(f"{path}:2: no rows, wanted at least one arrival")
    first = found[0].at
    if not {"tenant", "tier"} & set(fields):
        return with_tenants([arrival.at - first for arrival in found], tiers, seed)
    return [replace(arrival, at=arrival.at - first) for arrival in found]


def _check_header(path: Path, fields: list[str]) -> None:
    if "TIMESTAMP" in fields:
        return
    if "seconds" not in fields:
        raise TraceError(f"{path}:1: header: needs a column seconds or TIMESTAMP, has {fields}")
    for name in fields:
        if name not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise TraceError(f"{path}:1: header: unknown column {name!r}, known: {known}")
        if fields.count(name) > 1:
            raise TraceError(f"{path}:1: header: column {name} appears twice")


def _arrivals(path: Path, rows: csv.DictReader[str], tiers: Collection[str]) -> Iterator[Arrival]:
    before = -math.inf
    for row in rows:
        where = f"{path}:{rows.line_num}"
        for name, value in row.items():
            if name is None or value is None or not value.strip():
                what = "more fields than the header" if name is None else f"{name}: is empty"
                raise TraceError(f"{where}: {what}")
        field = "TIMESTAMP" if "TIMESTAMP" in row else "seconds"
        try:
            arrival = _arrival(_READ[field](row[field].strip()), row, tiers)
        except ValueError as error:
            name, _, text = str(error).rpartition("|")
            raise TraceError(f"{where}: {name or field}: {text}") from None
        if arrival.at < before:
            raise TraceError(f"{where}: {field}: is earlier than the row before; sort the rows")
        before = arrival.at
        yield arrival


def _arrival(at: float, row: dict[str, str], tiers: Collection[str]) -> Arrival:
    """ValueError, `field|text`."""
    tier = row.get("tier", next(iter(tiers))).strip()
    if tier not in tiers:
        raise ValueError(f"tier|unknown tier {tier!r}, known: {', '.join(sorted(tiers))}")
    given = row.get("images", "1").strip()
    if not given.isdecimal() or not 1 <= int(given) <= IMAGES_MAX:
        raise ValueError(f"images|must be a whole number from 1 to {IMAGES_MAX}, not {given!r}")
    return Arrival(at, row.get("tenant", "default").strip(), tier, int(given))


def _number(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"is not a number: {text!r}") from None
    if not math.isfinite(seconds):
        raise ValueError(f"must be finite, not {text}")
    return seconds


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is not a time such as 2023-11-16 18:17:03.97: {text!r}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_READ = {"TIMESTAMP": _moment, "seconds": _number}
