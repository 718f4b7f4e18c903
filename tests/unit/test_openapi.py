"""The OpenAPI document is about the routes that the gateway has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from starlette.routing import Route

from engine.capabilities import capabilities
from serve_app.gateway import ROUTERS
from serve_app.wire import openapi
from tests.stages.http_stage import config

CAN = capabilities("paced", {})
METHODS = {"get", "post", "put", "patch", "delete"}
NOT_OF_THE_API = {"/"}


def served() -> Iterator[tuple[str, str]]:
    for route in (route for router in ROUTERS for route in router.routes):
        assert isinstance(route, Route)
        for method in {name.lower() for name in route.methods or ()} & METHODS:
            path = re.sub(r"{(\w+):\w+}", r"{\1}", route.path)
            if path not in NOT_OF_THE_API:
                yield method, path


def described() -> Iterator[tuple[str, str]]:
    for path, operations in openapi.document(config(), CAN, "")["paths"].items():
        for method in operations:
            yield method, path


def test_every_route_is_described_and_nothing_else() -> None:
    assert sorted(served()) == sorted(described())
