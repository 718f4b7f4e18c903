"""What the routes share, made once by the gateway."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request

from autoscaling.lane_heat import QueueHeats
from autoscaling.temporary_limits import QueueLimits
from deployments.metrics.recorder import Metrics
from jobs.blobs.store import BlobStore
from jobs.client.async_ledger import AsyncLedger
from serve_app.access.auth import Keyring, UrlSigner
from serve_app.admission.prices import Prices
from serve_app.admission.queue import AdmissionQueue
from serve_app.admission.readiness import Readiness
from serve_app.admission.tenants import Buckets, OpenRequests, RecentRefusals
from serve_app.config.cluster import ClusterConfig
from serve_app.delivery.pieces import LargeAnswers
from serve_app.delivery.watch import JobWatch
from serve_app.orders.cluster import ClusterLook
from serve_app.orders.lane_models import LaneModels
from serve_app.uploads.fetching import RemoteImages
from serve_app.uploads.inputs import Inputs
from serve_app.wire.models import Models


@dataclass(frozen=True, slots=True)
class AppState:
    """One gateway's. What is edited while it runs is replaced with the whole of it."""

    config: ClusterConfig
    ledger: AsyncLedger
    blobs: BlobStore
    """Blocking: called in a thread."""
    keyring: Keyring
    signer: UrlSigner
    watch: JobWatch
    prices: Prices
    """Predicted costs of requests."""
    heats: QueueHeats
    limits: QueueLimits
    """Of each queue the limits of each tier, as heat tightens them."""
    lane_models: LaneModels
    inputs: Inputs
    """Pictures that clients send."""
    readiness: Readiness
    cluster: ClusterLook
    """Its nodes, for operators."""
    polls: Buckets = field(default_factory=Buckets)
    """Of each tenant."""
    invalid_orders: Buckets = field(default_factory=Buckets)
    """Of each tenant."""
    unauthenticated: Buckets = field(default_factory=Buckets)
    """Requests of each address without a valid key."""
    admission_queue: AdmissionQueue = field(default_factory=AdmissionQueue)
    recent_refusals: RecentRefusals = field(default_factory=RecentRefusals)
    """Tenants whose orders were refused by their limits."""
    remote_images: RemoteImages = field(default_factory=RemoteImages)
    open_requests: OpenRequests = field(default_factory=OpenRequests)
    large: LargeAnswers = field(default_factory=LargeAnswers)
    new_batches: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when one was created here: its feeder need not look for it."""
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def models(self) -> Models:
        """What can be asked for now."""
        return self.lane_models.now

    def keepalive_seconds(self, tenant: str) -> float:
        """Seconds that an event stream of the tenant is silent at most."""
        shortest = self.config.gateway.keepalive_seconds
        return self.open_requests.keepalive_seconds(tenant, shortest)


def app_state_of(request: Request) -> AppState:
    """The gateway's state."""
    state: AppState = request.app.state.app_state
    return state
