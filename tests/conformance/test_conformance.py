"""The table of OpenAI's API against the service: every row through the Python SDK or, where it
cannot say so, plain HTTP; what clients write differently (parameters, errors, headers) through
Node's, too. `make conformance` asks for all of it through all three, of a whole cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance import litellm
from tests.conformance.clients import CLIENTS, Client, NodeSdk
from tests.conformance.page import PAGE, markdown
from tests.conformance.reference import missing
from tests.conformance.row import Row
from tests.conformance.service import KEY, PACED, TENANTS
from tests.conformance.table import ROWS
from tests.page.pipeline import CONFIG, Pipeline

WRITTEN = ("parameter", "error", "header", "method")


def _asked(row: Row) -> list[str]:
    also = ["node"] if row.kind in WRITTEN and "node" in row.clients else []
    return [row.clients[0], *also]


ASKED = [
    pytest.param(row, name, id=f"{name}-{row.id}")
    for row in ROWS
    if row.lane == "paced" and set(row.clients) <= set(CLIENTS)
    for name in _asked(row)
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = {name: value for name, value in PACED.items() if name != "options"}
    settings = {**CONFIG, **TENANTS, "model": model, "temporary_limits": []}
    pipeline = Pipeline(tmp_path_factory.mktemp("conformance"), settings)
    yield f"{pipeline.url}v1"
    pipeline.close()


@pytest.fixture(scope="module")
def clients(url: str) -> Iterator[dict[str, Client]]:
    with ExitStack() as stack:
        here = [name for name in CLIENTS if name != "node" or not NodeSdk.missing()]
        yield {name: stack.enter_context(CLIENTS[name](url, KEY)) for name in here}


@pytest.mark.parametrize(("row", "name"), ASKED)
def test_a_row_holds(row: Row, name: str, clients: dict[str, Client]) -> None:
    if name == "node" and (why := NodeSdk.missing()):
        if os.environ.get("REQUIRE_ALL") == "1" and "WITHOUT_NODE" not in os.environ:
            pytest.fail(why)
        pytest.skip(why)
    row.check(clients[name])


def test_litellms_proxy_passes_what_the_table_says(url: str, tmp_path: Path) -> None:
    if why := litellm.missing():
        pytest.skip(why)
    with litellm.proxy(url, tmp_path, PACED["name"]) as clients:
        for row in litellm.LITELLM:
            row.check(clients[row.clients[0]])


def test_nothing_that_openais_sdk_lists_is_left_out() -> None:
    assert missing(ROWS) == []


def test_rows_are_told_apart() -> None:
    assert len({(row.where, row.kind, row.name, row.values) for row in ROWS}) == len(ROWS)


def test_the_page_is_what_the_table_says() -> None:
    assert Path(PAGE).read_text(encoding="utf-8") == markdown(ROWS), (
        "python -m tests.conformance --page"
    )
