"""The FastAPI application: routers, one error table, request ids. No Ray, no state of jobs.

Before any route a request must have a Host that is ours, and pages of other origins get the answers
that browsers ask for (CORS). Both by `gateway` in the config.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoscaling.capacity import ClusterNode
from autoscaling.lane_heat import QueueHeats
from autoscaling.temporary_limits import QueueLimits
from deployments.metrics.recorder import Metrics
from engine.capabilities import Capabilities, capabilities
from jobs.blobs.store import BlobStore, StoreUnavailable
from jobs.client.async_ledger import AsyncLedger
from jobs.ledger_errors import LedgerError
from jobs.log_context import REQUEST
from serve_app.access.auth import Keyring, UrlSigner
from serve_app.admission.prices import Prices
from serve_app.admission.readiness import Readiness
from serve_app.admission.tenants import ending
from serve_app.api import ROUTERS
from serve_app.batches.feeder import BatchFeeder
from serve_app.config.cluster import ClusterConfig
from serve_app.config.errors import ConfigError
from serve_app.config.sections import GatewaySection
from serve_app.delivery.slow_clients import SendBudget, SlowClientProtection
from serve_app.delivery.watch import JobWatch
from serve_app.orders.app_state import AppState
from serve_app.orders.callers import charge_refusal
from serve_app.orders.cluster import ClusterLook
from serve_app.orders.counting import BEGAN, count_refused, keep_showing
from serve_app.orders.lane_models import LaneModels
from serve_app.orders.responses import error_response, root_path
from serve_app.routes.ops import mount_studio
from serve_app.uploads.inputs import Inputs
from serve_app.webhooks.deliveries import Deliveries
from serve_app.wire.domain_errors import from_domain
from serve_app.wire.errors import ApiError, InvalidRequest, WrongHost, from_status
from serve_app.wire.models import ServedModel, announcement

log = logging.getLogger(__name__)
HEALTH_PATHS = ("/healthz", "/readyz")
"""Probes ask by address; these tell nothing and take no key."""
PREFLIGHT_SECONDS = 600
EXPOSED_HEADERS = (
    "location", "preference-applied", "retry-after", "traceresponse", "x-job-id",
    "x-meltproof-limits", "x-ratelimit-limit-images", "x-ratelimit-remaining-images",
    "x-ratelimit-reset-images", "x-request-id", "x-should-retry",
)  # fmt: skip
"""Headers of answers that scripts of other origins may read."""
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,255})(:[0-9]{1,5})?")


def create_app(
    ledger: AsyncLedger,
    blobs: BlobStore,
    config: ClusterConfig,
    *,
    alone: bool = False,
    nodes: Callable[[], Sequence[ClusterNode]] | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """The gateway over an open ledger and store, which stay the caller's to close. alone: it serves
    the models that are announced, and none of its config. nodes: asks the cluster, on a thread;
    None: there is none. Raises ConfigError."""
    if config.gateway.public_url is not None and not config.gateway.trusted_proxies:
        log.warning("gateway.trusted_proxies is empty: clients behind public_url share one address")
    app = FastAPI(
        title="Meltproof",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    models = () if alone else _configured(config, ledger)
    state = _app_state(ledger, blobs, config, models, ClusterLook(nodes))
    app.state.app_state = replace(state, metrics=metrics or Metrics())
    for router in ROUTERS:
        app.include_router(router)
    mount_studio(app)
    app.add_exception_handler(ApiError, _on_error)
    app.add_exception_handler(LedgerError, _on_error)
    app.add_exception_handler(StoreUnavailable, _on_error)
    app.add_exception_handler(HTTPException, _on_refusal)
    app.add_middleware(OwnHosts, hosts=config.gateway.hosts)  # what is added later is around it
    app.add_middleware(Envelope)
    let_pages_ask(app, config.gateway)
    app.state.send_budget = SendBudget()
    app.add_middleware(SlowClientProtection, budget=app.state.send_budget)
    return app


def _app_state(
    ledger: AsyncLedger,
    blobs: BlobStore,
    config: ClusterConfig,
    configured: Sequence[ServedModel],
    cluster: ClusterLook,
) -> AppState:
    models = LaneModels(ledger, config.lane, configured)
    return AppState(
        config,
        ledger,
        blobs,
        Keyring(config, ledger),
        UrlSigner(ledger.url_secret()),
        JobWatch(ledger, config.gateway.watch_grace_seconds),
        Prices(ledger),
        QueueHeats(ledger),
        QueueLimits(ledger, models.queues, config.tier_promises(), config.thresholds()),
        models,
        Inputs(ledger, blobs),
        Readiness(ledger),
        cluster,
    )


def let_go(app: FastAPI) -> None:
    """This process is about to end: what still waits here is told to come back."""
    app.state.app_state.watch.let_go()


def adopt(app: FastAPI, config: ClusterConfig) -> None:
    """Serve by other numbers from the next request on: keys, tiers, limits, qualities, times. The
    ledger and the store stay those of the start."""
    state = app.state.app_state
    state.limits.adopt(config.tier_promises(), config.thresholds())
    if configured := state.lane_models.configured:
        can = {model.name: model.can for model in configured}  # their files may be gone by now
        terms = [announcement(one) for one in config.each()]
        state.lane_models.adopt([ServedModel(model, can[model.name]) for model in terms])
    keyring = Keyring(config, state.ledger, state.keyring)
    app.state.app_state = replace(state, config=config, keyring=keyring)


def _configured(config: ClusterConfig, ledger: AsyncLedger) -> list[ServedModel]:
    return [ServedModel(announcement(one), _capabilities(one, ledger)) for one in config.each()]


def _capabilities(config: ClusterConfig, ledger: AsyncLedger) -> Capabilities:
    """As the model's files say, or as it announced them before they went away: a gateway that
    starts meanwhile serves the lane's other models, and takes the orders that wait for this one."""
    try:
        return capabilities(config.model.family, config.model.options)
    except (OSError, ValueError) as error:
        said = [one.announcement for one in ledger.models_at_start(config.lane)]
        for model in said:
            if (model.name, model.family) == (config.model.name, config.model.family):
                log.warning("model %s is served as it was announced: %s", model.name, error)
                return Capabilities.from_json(model.capabilities)
        raise ConfigError(f"args: model {config.model.name}: options: {error}") from None


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    state = app.state.app_state
    webhooks = Deliveries(state.ledger, lambda: app.state.app_state.config.webhooks, state.metrics)
    batches = BatchFeeder(lambda: app.state.app_state)
    follow = state.limits.follow(), state.lane_models.follow(), keep_showing(app)
    loops = *follow, webhooks.run(), batches.run()
    following = [asyncio.create_task(loop) for loop in loops]
    yield
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    await app.state.app_state.watch.close()
    await asyncio.to_thread(app.state.app_state.inputs.close)


async def _on_error(request: Request, error: Exception) -> Response:
    problem = from_domain(error)
    if problem is not error:
        log.warning("%s %s: %r", request.method, request.url.path, error)
    charge_refusal(request, problem)
    count_refused(request, problem, error)
    return error_response(problem)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # by registration
    if error.status_code == 404 and request.scope["path"] == request.scope.get("root_path"):
        return RedirectResponse(f"{root_path(request)}/")  # the page's own links are relative
    headers = error.headers
    if error.status_code == 405:
        headers = {"allow": ", ".join(sorted(_allowed(request) or {"GET", "HEAD"}))}
    problem = from_status(error.status_code, headers)
    count_refused(request, problem, error)
    return error_response(problem)


def _allowed(request: Request) -> set[str]:
    """Every method of this path, empty for a file's: the framework names those of one route."""
    return {
        method
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


class Envelope:
    """Puts a request id and nosniff on every answer, and turns uncaught exceptions into a 500.

    A request that came through Serve has an id already, and Serve itself puts it on the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        known_id = Headers(scope=scope).get("x-request-id")
        request_id = known_id or f"req_{random.getrandbits(96):024x}"  # no secret
        REQUEST.set(request_id)  # of this task, and of those that it begins
        started = False
        scope[BEGAN] = time.monotonic()

        async def stamped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                if known_id is None:
                    headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            with ending(scope):
                await self._app(scope, receive, stamped)
        except ClientDisconnect:
            log.info("request %s: its client left before it had said all", request_id)
        except Exception as error:
            log.exception("request %s failed: %s %s", request_id, scope["method"], scope["path"])
            count_refused(Request(scope), ApiError(), error)
            if not started:
                await error_response(ApiError())(scope, receive, stamped)


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
