"""Every metric there is, with its type, labels and what it means. Nothing else makes one.

Names end in their unit, and counters in `_total` when Prometheus reads them. A label has the values
that are listed here, and `other` in place of any other one. Where the configuration decides what
there is (models, tiers, queues) a process keeps MOST_VALUES of them at most, and then `other`, too.
No tenant, no user and no text that a client sends is a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from autoscaling.policy import Cause
from dispatch.metering import Interruption, LedgerTrouble, PreviewEnd
from dispatch.stage_times import STAGES
from engine.policy import Action, ScreenStage
from jobs.batches import ENDED, OPEN, LineState
from jobs.job import RenderState

MOST_VALUES = 32
OTHER = "other"


class MetricKind(StrEnum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Across(StrEnum):
    """What a gauge is of several processes of a node: the modes of prometheus_client that leave out
    processes that have ended."""

    SUM = "livesum"
    MOST = "livemax"
    LEAST = "livemin"


@dataclass(frozen=True, slots=True)
class Label:
    """values: all there are; none where the configuration says them."""

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """buckets: upper bounds, of a histogram. across: of a gauge."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    across: Across = Across.MOST


class OrderEnd(StrEnum):
    """What has become of an order at a gateway."""

    ACCEPTED = "accepted"  # it is in the ledger
    REFUSED = "refused"  # by quota, limits, policy, or because it is not valid
    FAILED = "failed"  # the service could not


class DeliveryEnd(StrEnum):
    """What has become of a try to deliver a webhook."""

    DELIVERED = "delivered"
    FAILED = "failed"  # tried again later
    DEAD = "dead"  # not any more


class Part(StrEnum):
    """What a process is."""

    GATEWAY = "gateway"
    DISPATCHER = "dispatcher"
    ENCODER = "encoder"
    CLASSIFIER = "classifier"
    DECODER = "decoder"
    CONTROLLER = "controller"  # Serve's, which asks the scaling policies


class Place(StrEnum):
    """Where a checkpoint is."""

    ROW = "row"  # of the ledger
    BLOB = "blob"


SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
           300.0, 600.0)  # fmt: skip
START_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
WIDTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0)
REASONS = (
    "batch_not_cancellable", "batch_not_found", "batches_closed", "body_too_large",
    "endpoint_retired", "idempotency_mismatch", "illegal_transition",
    "image_expired", "insufficient_quota", "invalid_api_key", "invalid_host", "invalid_signature",
    "invalid_value", "issuer_unavailable", "job_cancelled", "keys_unreadable", "ledger_unavailable",
    "method_not_allowed", "moderation_blocked", "newer_job", "no_model", "not_found",
    "not_yet_open", "operator_required", "previous_response_not_found", "rate_limit_exceeded",
    "render_failed", "request_timeout", "server_error", "still_queued", "store_unavailable",
    "too_many_blocked", "too_many_files", "too_many_open",
    "too_many_waiting", "too_many_webhook_endpoints", "unknown_url", "unsupported_content_encoding",
    "webhook_unreachable", "wrong_host",
)  # fmt: skip
"""Codes of error answers."""

MODEL, TIER, LANE = Label("model"), Label("tier"), Label("lane")
DEPLOYMENT = (Label("application"), Label("deployment"))
CAUSE = Label("cause", tuple(Cause))


def _counter(name: str, what: str, *labels: Label) -> Metric:
    return Metric(f"meltproof_{name}", MetricKind.COUNTER, what, labels)


def _gauge(name: str, what: str, *labels: Label, across: Across = Across.MOST) -> Metric:
    return Metric(f"meltproof_{name}", MetricKind.GAUGE, what, labels, across=across)


def _histogram(name: str, what: str, buckets: tuple[float, ...], *labels: Label) -> Metric:
    return Metric(f"meltproof_{name}", MetricKind.HISTOGRAM, what, labels, buckets)


# An order and its images

STAGE_SECONDS = _histogram(
    "stage_seconds", "How long orders (accept) and images (all others) were in each stage.",
    SECONDS, MODEL, Label("stage", ("accept", *STAGES)),
)  # fmt: skip
ORDERS = _counter(
    "orders", "Orders by what has become of them at the gateway.",
    Label("outcome", tuple(OrderEnd)),
)  # fmt: skip
REFUSALS = _counter(
    "refusals", "Requests answered with an error, by its code.", Label("reason", REASONS)
)
IMAGES = _counter(
    "images", "Images settled by dispatchers.", MODEL, Label("outcome", tuple(RenderState))
)
INTERRUPTIONS = _counter(
    "interruptions", "Renders that left their slots before their last pass.",
    MODEL, Label("reason", tuple(Interruption)),
)  # fmt: skip
PREVIEWS = _counter(
    "previews", "Previews by what has become of them; late ones were judged after the picture.",
    MODEL, Label("outcome", tuple(PreviewEnd)),
)  # fmt: skip
CHECKPOINT_BYTES = _counter(
    "checkpoint_bytes", "Bytes of checkpoints written, by where they are kept.",
    MODEL, Label("place", tuple(Place)),
)  # fmt: skip
VERDICTS = _counter(
    "verdicts", "Verdicts, once for each category that something is done about.",
    Label("stage", tuple(ScreenStage)), Label("category"), Label("action", tuple(Action)),
)  # fmt: skip
LEDGER_ERRORS = _counter(
    "ledger_errors", "Calls of the ledger that failed, and leases lost.",
    Label("part", tuple(Part)), Label("kind", tuple(LedgerTrouble)),
)  # fmt: skip
WATCHERS = _gauge("watchers", "Requests that wait for a picture, or stream.", across=Across.SUM)
ORDERS_WAITING = _gauge(
    "orders_waiting", "Orders in gateways that wait to be written down.", across=Across.SUM
)

WEBHOOKS = _counter(
    "webhook_deliveries", "Tries to deliver webhooks, by what has become of them.",
    Label("outcome", tuple(DeliveryEnd)),
)  # fmt: skip
WEBHOOK_OVERDUE_SECONDS = _gauge(
    "webhook_overdue_seconds", "How long ago the oldest webhook that waits was due."
)

# Batches: every gateway of a lane shows the open ones, so they are the most and no sum

BATCHES = _gauge(
    "batches", "Batches that have not ended, by state.", LANE, Label("state", tuple(OPEN))
)
BATCH_LINES = _gauge(
    "batch_lines", "Lines of these batches: waiting ones are those that have not ended.",
    LANE, Label("state", (LineState.WAITING, LineState.COMPLETED, LineState.FAILED)),
)  # fmt: skip
BATCHES_ENDED = _counter(
    "batches_ended", "Batches that ended, by how.", LANE, Label("outcome", tuple(sorted(ENDED)))
)

# Decoders

SLOTS = _gauge(
    "slots", "Slots of decoders: all of them, and those with a render.",
    MODEL, Label("state", ("total", "used")), across=Across.SUM,
)  # fmt: skip
PASSES = _counter("passes", "Passes of running batches.", MODEL)
STEPS = _counter("steps", "Passes of single images: token passes or denoising steps.", MODEL)
PASS_SECONDS = _histogram("pass_seconds", "How long one pass of a batch took.", SECONDS, MODEL)
BATCH_WIDTH = _histogram("batch_width", "Renders that shared a pass.", WIDTHS, MODEL)
SLOTS_RECLAIMED = _counter(
    "slots_reclaimed", "Reserved slots taken back because their dispatcher was gone.", MODEL
)
START_SECONDS = _histogram(
    "start_seconds", "From the start of a replica's code until it is ready: a cold start.",
    START_BUCKETS, Label("part", tuple(Part)), MODEL,
)  # fmt: skip
DECODERS_AWAY = _gauge("decoders_away", "1 while a model has no decoder and should have.", MODEL)

# Heat: every dispatcher of a lane shows it, so it is the largest and no sum

DRAIN_SECONDS = _gauge(
    "drain_seconds", "Until all that waits and runs is drawn; NaN while unknown.", LANE
)
RENDER_RATE = _gauge("render_rate", "GPU-seconds drawn per second; NaN while unknown.", LANE)
ARRIVAL_RATE = _gauge(
    "arrival_rate", "GPU-seconds of work accepted per second, over six seconds.", LANE
)
RUNNING_GPU_SECONDS = _gauge(
    "running_gpu_seconds", "GPU-seconds left of what dispatchers hold.", LANE
)
WAITING_GPU_SECONDS = _gauge(
    "waiting_gpu_seconds", "Predicted GPU-seconds of what waits.", LANE, TIER
)
QUEUED_JOBS = _gauge(
    "queued_jobs", "Jobs that wait, also those of tenants at their limit.", LANE, TIER
)
OLDEST_WAIT_SECONDS = _gauge(
    "oldest_wait_seconds", "How long the oldest of the next jobs has waited.", LANE, TIER
)
PROMISED_WAIT_SECONDS = _gauge(
    "promised_wait_seconds", "What the scaling policy keeps drain time under.", LANE
)
OF_LANE = (DRAIN_SECONDS, RENDER_RATE, ARRIVAL_RATE, RUNNING_GPU_SECONDS)
OF_TIER = (WAITING_GPU_SECONDS, QUEUED_JOBS, OLDEST_WAIT_SECONDS)

# Scaling

SCALING_WANTED = _gauge("scaling_wanted", "Replicas that the policy wants.", *DEPLOYMENT)
SCALING_DECISIONS = _counter(
    "scaling_decisions", "Times that the policy wanted another number of replicas, and why.",
    *DEPLOYMENT, Label("direction", ("up", "down")), CAUSE,
)  # fmt: skip
SCALING_HELD = _counter("scaling_held", "Decisions not to decide.", *DEPLOYMENT)

# A node

PROCESSES = _gauge(
    "processes", "Processes that report.", Label("part", tuple(Part)), across=Across.SUM
)
ENERGY_JOULES = _counter(
    "energy_joules", "What GPUs and CPU packages of the node have used; absent without a counter.",
    Label("device"),
)  # fmt: skip
CERTIFICATE_EXPIRES = _gauge(
    "certificate_expires_timestamp_seconds",
    "When the certificate that signs pictures expires, in seconds since the epoch.",
    across=Across.LEAST,
)

CATALOGUE: tuple[Metric, ...] = tuple(
    found for found in list(globals().values()) if isinstance(found, Metric)
)
