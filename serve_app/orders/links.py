"""Where this lane is, as its clients reach it: what every link in an answer begins with.

Behind Serve that is the route prefix. Behind a load balancer that maps a host name to the prefix it
is `gateway.public_url`; no header says it, because any client can send one.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from serve_app.orders.app_state import app_state_of


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
