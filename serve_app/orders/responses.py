"""What any answer is made of: JSON, the error envelope, and the beginning of its links.

Links begin with the route prefix. Behind a load balancer that maps a host name to the prefix it is
`gateway.public_url`; no header says it, because any client can send one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from serve_app.orders.app_state import app_state_of
from serve_app.wire.errors import ApiError


def root_url(request: Request) -> str:
    """`http://127.0.0.1:8000/api`, or the public URL: without a slash at the end."""
    public_url = app_state_of(request).config.gateway.public_url
    return (public_url or str(request.base_url)).rstrip("/")


def root_path(request: Request) -> str:
    """The path of `root_url`: `/api`, or nothing at a host's root."""
    public_url = app_state_of(request).config.gateway.public_url
    if public_url is None:
        return str(request.scope.get("root_path", "")).rstrip("/")
    return urlsplit(public_url).path.rstrip("/")


def json_response(
    body: Mapping[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """JSON, encoded by the fast encoder."""
    return Response(to_json(body), status, headers, media_type="application/json")


def error_response(problem: ApiError, headers: dict[str, str] | None = None) -> Response:
    """The OpenAI envelope with its status and headers."""
    return json_response(problem.envelope(), problem.status, {**problem.headers, **(headers or {})})
