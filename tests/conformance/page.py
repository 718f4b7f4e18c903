"""docs/openai-compatibility.md, made from the table."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path

from tests.conformance.row import Row

PAGE = Path("docs/openai-compatibility.md")
TITLES = {
    "generations": "`POST /v1/images/generations`",
    "edits": "`POST /v1/images/edits`",
    "tweaks": "`POST /v1/images/{id}/tweaks` and lineage (ours)",
    "responses": "`/v1/responses`",
    "responses call": "`/v1/responses`: the item `image_generation_call`",
    "responses tool": "`/v1/responses`: the tool `image_generation`",
    "variations": "`POST /v1/images/variations`",
    "files": "`/v1/files`",
    "files list": "`GET /v1/files`",
    "batches": "`/v1/batches`",
    "provenance": "`POST /v1/content_provenance_checks`",
    "webhooks": "Webhooks: `/v1/webhook_endpoints`, and what is sent",
    "models": "`/v1/models`",
    "errors": "Errors",
    "headers": "Headers",
    "endpoints": "Endpoints that are not offered, or not to tenants",
    "litellm": "Behind LiteLLM's proxy, by its own routes (`/v1`)",
    "litellm passthrough": "Behind LiteLLM's proxy, passed through (`/openai_passthrough/v1`)",
}
KINDS = {"parameter": "parameter", "response": "field of the answer", "event": "field of an event"}
HEAD = """# OpenAI compatibility, row by row

Every parameter, listed value, field of an answer or event, error and header of OpenAI's Images
API, and of the files, batches and models that it needs, with what Meltproof does with it.
Parameters, values and fields are read from the types of OpenAI's own Python SDK, so that none is
left out by accident.
`make conformance` asks a running service for every row through the official Python SDK, the
official Node SDK and plain HTTP, all as they come from their registries, and makes this page; a
test holds it to the table in `tests/conformance/`.

LiteLLM's proxy is asked, too, as `examples/litellm.yaml` sets it up; what it drops is at the end.

**honoured**: it does what OpenAI's reference says, or what the row says · **refused**: 4xx that
names it · **no effect**: accepted, and the picture is the same with and without it · **never
sent** · **not offered**: 404
"""


def markdown(rows: tuple[Row, ...]) -> str:
    """The page."""
    counts = Counter(row.does.value for row in rows)
    said = ", ".join(f"{count} {does}" for does, count in counts.items())
    parts = [HEAD, f"{len(rows)} rows: {said}.\n"]
    for where, of_where in groupby(rows, key=lambda row: row.where):
        parts.append(f"## {TITLES[where]}\n")
        for kind, of_kind in groupby(of_where, key=lambda row: row.kind):
            parts.append(_table(KINDS.get(kind, kind), list(of_kind)))
    return "\n".join(parts)


def _table(kind: str, rows: list[Row]) -> str:
    lines = [f"| {kind} | | | |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{row.name}` | {', '.join(row.values)} | {row.does.value} | {_note(row)} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _note(row: Row) -> str:
    asked_by = "(plain HTTP)" if row.clients == ("http",) else ""
    return " ".join(part for part in (row.note, asked_by) if part)
