"""Webhooks: where tenants want to be told what has ended, and what they are told. Endpoints, events
and deliveries as records; the verbs of the ledger about them; which move of a job is an event."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from jobs.job import Job, JobState, response_id
from jobs.ledger_errors import LedgerError
from jobs.policy.redelivery import DeliveryRules
from jobs.verdicts import VerdictNote

IMAGE_EVENTS = tuple(f"image.generation.{end}" for end in ("completed", "failed", "cancelled"))
BATCH_EVENTS = tuple(f"batch.{end}" for end in ("completed", "failed", "expired", "cancelled"))
RESPONSE_EVENTS = tuple(
    f"response.{end}" for end in ("completed", "failed", "cancelled", "incomplete")
)
SAFETY_EVENT = "safety_identifier.blocked"
EVENT_TYPES = (*IMAGE_EVENTS, *BATCH_EVENTS, *RESPONSE_EVENTS, SAFETY_EVENT)
"""All there are, by OpenAI's names where it has one."""
_ENDS = {
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.BLOCKED: "failed",
    JobState.EXPIRED: "failed",
    JobState.CANCELLED: "cancelled",
}
SECRET_PREFIX = "whsec_"
_SECRET_BYTES = 32
OLD_SECRET_SECONDS = 86_400.0
"""How long a secret that was replaced goes on signing, where that was asked for."""


class TooManyEndpoints(LedgerError):
    """The tenant has as many endpoints as it may have: delete one first."""

    def __init__(self, most: int) -> None:
        super().__init__(f"there are {most} webhook endpoints, and no more may be")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """One URL of a tenant. Times are seconds since the epoch on the ledger's clock."""

    id: str
    tenant: str
    name: str
    url: str
    event_types: tuple[str, ...]
    created_at: float
    updated_at: float
    secret: str = field(repr=False)
    """Stored as it is, because it has to sign; as the SDKs take it."""
    old_secret: str | None = field(default=None, repr=False)
    """Signs beside it, until `old_secret_until`."""
    old_secret_until: float = 0.0
    failing_since: float | None = None
    """Of the first of its deliveries that failed since one succeeded."""
    disabled_at: float | None = None
    disabled_reason: str | None = None

    def secrets(self, now: float) -> tuple[str, ...]:
        """Those that sign at that time, the newest first."""
        if self.old_secret is None or now >= self.old_secret_until:
            return (self.secret,)
        return (self.secret, self.old_secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChange:
    """What of an endpoint is to be another; None stays. enabled True also forgets failures.
    keep_old_secret: the one before `secret` signs for another day."""

    name: str | None = None
    url: str | None = None
    event_types: tuple[str, ...] | None = None
    enabled: bool | None = None
    secret: str | None = field(default=None, repr=False)
    keep_old_secret: bool = False


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """Something that a tenant may want to be told. id: the same however often it is written or
    delivered. data: what the event says, texts by name."""

    id: str
    tenant: str
    type: str
    data: Mapping[str, str]


class DeliveryState(StrEnum):
    """Of one event to one endpoint."""

    WAITING = "waiting"  # for its first try, or the next
    DELIVERED = "delivered"
    DEAD = "dead"  # not tried any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint. status_code, error: of the last try."""

    endpoint: str
    event: str
    type: str
    data: Mapping[str, str]
    created_at: float
    state: DeliveryState
    attempts: int
    due_at: float
    """Of the next try; while one is made, until when it is its gateway's."""
    status_code: int | None = None
    error: str | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that is this gateway's to make, now."""

    delivery: Delivery
    endpoint: WebhookEndpoint


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """What came of a try. error: None when the endpoint took it. gone: it wants no more of them.
    jitter: 0..1, drawn by the caller, spreads the next try."""

    claimed: ClaimedDelivery
    status_code: int | None
    error: str | None
    gone: bool = False
    jitter: float = 0.5


class WebhookTable(Protocol):
    """Endpoints of tenants, and deliveries to them."""

    def add_endpoint(self, endpoint: WebhookEndpoint, most: int) -> WebhookEndpoint:
        """As stored, with the ledger's time. Raises TooManyEndpoints."""

    def endpoint(self, tenant: str, endpoint_id: str) -> WebhookEndpoint | None:
        """One of the tenant's, or None."""

    def endpoints(
        self, tenant: str | None, limit: int, after: str | None = None
    ) -> list[WebhookEndpoint]:
        """The tenant's, or all; newest first, from behind the id `after`."""

    def change_endpoint(
        self, tenant: str, endpoint_id: str, change: EndpointChange
    ) -> WebhookEndpoint | None:
        """It, changed; None: the tenant has no such endpoint."""

    def drop_endpoint(self, tenant: str, endpoint_id: str) -> bool:
        """Forget it and its deliveries. False: the tenant has no such endpoint."""

    def deliveries(
        self,
        tenant: str,
        endpoint_id: str,
        state: DeliveryState | None,
        limit: int,
        after: str | None = None,
    ) -> list[Delivery]:
        """Of one endpoint, newest first, from behind the event `after`."""

    def redeliver(self, tenant: str, endpoint_id: str, event: str | None = None) -> int:
        """Deliver that event again, or now if it waits, or all dead ones; how many."""

    def queue_event(self, endpoint: WebhookEndpoint, event: WebhookEvent) -> None:
        """Deliver that event to that endpoint, whatever types it has chosen."""

    def overdue_deliveries(self) -> float | None:
        """How many seconds ago the oldest delivery that waits for a gateway was due; None: none."""

    def claim_deliveries(
        self, room: int, in_hand: Mapping[str, int], rules: DeliveryRules
    ) -> list[ClaimedDelivery]:
        """At most so many that are due, under a lease; what is not settled by its end is due again.
        in_hand: how many of each endpoint the caller has."""

    def settle_deliveries(
        self, attempts: Sequence[DeliveryAttempt], rules: DeliveryRules
    ) -> list[DeliveryState]:
        """Write down what came of them; how each stands now. One that is another gateway's by now
        is left alone."""


def new_secret() -> str:
    """As the SDKs take it."""
    return SECRET_PREFIX + b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def new_endpoint(tenant: str, name: str, url: str, event_types: Sequence[str]) -> WebhookEndpoint:
    """One that is not stored yet."""
    return WebhookEndpoint(
        id=f"we_{secrets.token_hex(12)}",
        tenant=tenant,
        name=name,
        url=url,
        event_types=tuple(event_types),
        created_at=0.0,
        updated_at=0.0,
        secret=new_secret(),
    )


def event_id(*parts: object) -> str:
    """The same for the same parts."""
    digest = hashlib.blake2b(json.dumps([str(part) for part in parts]).encode(), digest_size=16)
    return f"evt_{digest.hexdigest()}"


def sample_event(tenant: str, kind: str) -> WebhookEvent:
    """What a test of an endpoint sends: an event of that type about nothing."""
    about = {
        SAFETY_EVENT: {"safety_category": "sample", "safety_identifier": "sample"},
    }.get(kind, {"id": "sample"})
    return WebhookEvent(f"evt_{secrets.token_hex(16)}", tenant, kind, about)


def events_of_ends(moves: Sequence[tuple[Job, Job]]) -> list[WebhookEvent]:
    """Of jobs before and after a move: of each that has ended by it, one event. A job that an
    operator lets wait again ends under another fence, which is another event. Of a line of a batch
    none: its batch has one."""
    ends = (after for before, after in moves if after.ended and not before.ended)
    return [_end_of(job) for job in ends if not job.request.in_batch]


def _end_of(job: Job) -> WebhookEvent:
    """A background response is told of as one; any other order as a job."""
    order = job.request.response
    background = order is not None and order.background
    kind = f"{'response' if background else 'image.generation'}.{_ENDS[job.state]}"
    named = response_id(job.id) if background else job.id
    return WebhookEvent(event_id(kind, job.id, job.fence), job.request.tenant, kind, {"id": named})


def events_of_blocks(notes: Sequence[VerdictNote]) -> list[WebhookEvent]:
    """Of verdicts that block an order, where the client has named its user: one for each order."""
    return [
        WebhookEvent(
            event_id(SAFETY_EVENT, note.job_id),
            note.tenant,
            SAFETY_EVENT,
            {
                "safety_category": note.categories[0] if note.categories else "other",
                "safety_identifier": note.user,
                "request_id": note.job_id,
            },
        )
        for note in notes
        if note.action == "block" and note.user
    ]
