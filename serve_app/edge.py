"""What a request must have before any route sees it: a Host that is ours, and for pages of other
origins the answers that browsers ask for (CORS). Both by `gateway` in the config."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.config.sections import GatewaySection
from serve_app.orders.responses import error_response
from serve_app.wire.errors import ApiError, InvalidRequest, WrongHost

HEALTH_PATHS = ("/healthz", "/readyz")
"""Probes ask by address; these tell nothing and take no key."""
PREFLIGHT_SECONDS = 600
EXPOSED_HEADERS = (
    "location", "preference-applied", "retry-after", "x-job-id", "x-meltproof-limits",
    "x-ratelimit-limit-images", "x-ratelimit-remaining-images", "x-ratelimit-reset-images",
    "x-request-id", "x-should-retry",
)  # fmt: skip
"""Headers of answers that scripts of other origins may read."""
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,255})(:[0-9]{1,5})?")


def let_pages_ask(app: Starlette, section: GatewaySection) -> None:
    """Answer the scripts of listed origins in the way that their browsers want."""
    if section.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=section.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],  # whatever the page asks for: the key is in one of them
            expose_headers=EXPOSED_HEADERS,
            max_age=PREFLIGHT_SECONDS,
        )


class OwnHosts:
    """Serves its own names only: a page whose name was made to point at this machine (DNS
    rebinding) sends its own. hosts: None serves every name."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or answer which names are served here."""
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await error_response(problem)(scope, receive, send)

    def _problem(self, scope: Scope) -> ApiError | None:
        given = Headers(scope=scope).get("host", "").lower()
        host = _HOST.fullmatch(given)
        if host is None and given:
            return InvalidRequest("The Host header is not a host name.", code="invalid_host")
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")).rstrip("/"))
        if self._hosts is None or path in HEALTH_PATHS:
            return None
        if host is not None and host["name"].rstrip(".") in self._hosts:
            return None
        return WrongHost(
            f"This server answers to {', '.join(self._hosts)}, not to the Host of this request. "
            "If it is yours, its operator adds it to gateway.hosts."
        )
