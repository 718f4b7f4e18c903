"""The sections of a configuration, each frozen and strict. What they mean together: cluster.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic.functional_validators import BeforeValidator

from autoscaling.limits import thresholds_of
from autoscaling.policies import PolicyNumbers
from deployments.metrics.settings import PORT, MetricsSettings
from jobs.tiers import QuotaDays, rollout_percent
from serve_app.config.sizes import MAX_PIXELS
from serve_app.config.spellings import Dsn, Host, Network, Origin, Size, Zone

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SECRET_BYTES = 32
LEAST_GUIDANCE, MOST_GUIDANCE = 1.0, 20.0
"""Of any model; the least is none."""
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the configuration: no coercion, no unknown keys, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelSection(Section):
    """Which decoder family draws, and what the gateway must know about it."""

    name: Annotated[str, Field(min_length=1)] = "meltproof-emoji"
    aliases: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Other names that requests may give it, so that programs for OpenAI's models run unchanged."""
    family: Literal["diffusers", "janus", "masked", "paced"] = "masked"
    options: dict[str, JsonValue] = {}
    """Go to the family as they are."""
    guidance: Annotated[float, Field(ge=LEAST_GUIDANCE, le=MOST_GUIDANCE)] = 2.0
    """Classifier-free."""
    size: Size = "512x512"
    """What `size: auto` means."""
    max_pixels: Annotated[int, Field(ge=256, le=MAX_PIXELS)] | None = None
    """Of the largest size that may be asked for, where that is less than limits.max_pixels."""
    pass_seconds: Seconds = 0.024
    """Predicted GPU-seconds of one pass of one image: the unit of cost in the fair queue. Decoders
    that measure it at their start announce theirs in its place."""
    queue: Annotated[str, Field(min_length=1)] | None = None
    """Where its jobs wait in the ledger; left out: the lane's own for the first of a lane's models,
    `lane/name` for the others."""


HEADROOM = 2
"""Calls beyond the slots that a decoder replica accepts: one that delivers its pixels, one that
waits for the next slot."""


OF_REPLICAS = ("replicas", "num_cpus", "num_gpus")


def require_no_replicas(section: Section) -> None:
    """ValueError for a local stage that sizes the deployment it is not."""
    fields = type(section).model_fields
    for name in OF_REPLICAS if getattr(section, "local", False) else ():
        if name in fields and getattr(section, name) != fields[name].default:
            raise ValueError(
                f"{name}: leave it out, or `local`: with `local: true` each dispatcher has one of "
                "its own, without a GPU, and there are no replicas"
            )


class DecoderSection(Section):
    """Decoder replicas; `slots` renders share a batch in each."""

    slots: Count = 4
    replicas: Count = 1
    num_cpus: Share = 1.0
    num_gpus: Share = 0.0
    grace_seconds: Seconds = 30.0


class EncoderSection(Section):
    """Prompt encoder replicas and how long a batch waits to fill."""

    local: bool = False
    """In a child process of each dispatcher, not in replicas of a deployment."""
    replicas: Count = 1
    num_cpus: Share = 0.1
    num_gpus: Share = 0.0
    """For families with text encoders of their own."""
    max_batch: Count = 8
    batch_wait_ms: Annotated[int, Field(ge=0)] = 2
    threads: Count = 1

    @model_validator(mode="after")
    def _local_ones_are_no_replicas(self) -> Self:
        require_no_replicas(self)
        return self


class DispatcherSection(Section):
    """Dispatchers: leases, heartbeats (which are the checkpoints), and the ready queue."""

    replicas: Count = 1
    num_cpus: Share = 0.1
    lease_seconds: Seconds = 5.0
    heartbeat_seconds: Seconds = 0.25
    ready_queue: Count = 2
    """Most images in it."""
    finishing_threads: Count = 1
    enlarger: Annotated[str, Field(min_length=1)] = "own"
    """Of pictures that are wanted larger than they are drawn: "own" is that of the model's weights,
    if there is one, "none" leaves them to Pillow, and a weights folder gives that one's to a model
    whose pictures are of the size that it takes."""
    attempts: Count = 5
    """Of an image that a stage raises, dies or hangs with, before it fails."""
    pass_timeout_seconds: Seconds = 30.0
    """Of one pass of a decoder."""
    call_timeout_seconds: Seconds = 60.0
    """Of one call of any other stage, queueing there included."""

    @model_validator(mode="after")
    def _beats_within_a_lease(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("heartbeat_seconds must be at most half of lease_seconds")
        return self


class GatewaySection(Section):
    """Gateways: how long requests wait, and under which names and origins they come in."""

    replicas: Count = 1
    num_cpus: Share = 0.1
    sync_wait_seconds: Seconds = 540.0
    """How long a plain JSON request waits; below the client's 600."""
    watch_grace_seconds: Seconds = 120.0
    """How long a synchronous job lives once its client has left; five times that while nothing is
    heard of its gateway."""
    keepalive_seconds: Seconds = 3.0
    """How long an event stream is silent at most, ten times that of a tenant with hundreds; below
    the read timeouts of proxies."""
    url_seconds: Count = 3600
    """How long a signed picture URL opens."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^/?#\s]+[^?#\s]*$")] | None = None
    """Where clients reach this lane when a load balancer maps that to the route prefix."""
    trusted_proxies: Annotated[tuple[Network, ...], Field(strict=False)] = ()
    """Addresses or networks whose X-Forwarded-For is believed."""
    hosts: Annotated[tuple[Host, ...], Field(strict=False, min_length=1)] | None = None
    """Names that requests may be for (their Host without a port); null serves every name."""
    cors_origins: Annotated[tuple[Origin, ...], Field(strict=False)] = ()
    """Origins whose scripts may ask, such as https://app.example.com."""


class LedgerSection(Section):
    """Where the truth lives: a file of one machine (sqlite:///var/ledger.db), or a server
    (postgresql://user:password@host/database)."""

    dsn: Dsn = "sqlite:///var/laptop/ledger.db"

    @model_validator(mode="before")
    @classmethod
    def _one_database(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "shards" in given:
            raise ValueError(
                "shards: tenants are no longer spread over databases; give each database a lane of "
                "its own, or name one PostgreSQL-compatible cluster as dsn (docs/scale.md)"
            )
        return given


class ScalingSection(Section):
    """What decoders scale by, where the Decoder's `autoscaling_config` names our policy; what is
    left out is as in autoscaling.policies.PolicyNumbers, which says what each number means. Bounds
    stand in `autoscaling_config`."""

    policy: Literal["drain", "static"] | None = None
    wait_seconds: float | None = None
    tier_wait_seconds: dict[str, float] | None = None
    horizon_seconds: float | None = None
    smoothing_seconds: float | None = None
    panic_factor: float | None = None
    panic_seconds: float | None = None
    idle_cold_starts: float | None = None
    scale_down_seconds: float | None = None
    step_up: int | None = None
    step_down: int | None = None
    step_seconds: float | None = None
    late_seconds: Seconds = 120.0
    """With no replica more for so long while some are missing, no more are asked for."""

    @model_validator(mode="after")
    def _numbers_make_sense(self) -> Self:
        self.numbers(1, 1)
        return self

    def numbers(self, min_replicas: int, max_replicas: int) -> PolicyNumbers:
        """As policies take them. ValueError."""
        given = self.model_dump(exclude_none=True, exclude={"late_seconds"})
        return PolicyNumbers(**given, min_replicas=min_replicas, max_replicas=max_replicas)


class MetricsSection(Section):
    """What Prometheus reads, one page for each node."""

    enabled: bool = True
    port: Annotated[int, Field(ge=1, le=65_535)] = PORT
    """Of each node; lanes may share it."""
    host: Annotated[str, Field(min_length=1)] | None = None
    """Address that is listened on; left out: the node's own, as Ray knows it."""
    directory: Annotated[str, Field(min_length=1)] | None = None
    """Of each node, on its own disk: where its processes keep their values. Left out: in Ray's
    session directory."""

    def settings(self) -> MetricsSettings:
        """As replicas take them."""
        return MetricsSettings(**self.model_dump())


class TierSection(Section):
    """How a class of tenants is served; a limit that is null or missing is none. See jobs.tiers."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    images_per_day: Count | None = None
    concurrent_renders: Count | None = None
    queued_jobs: Count | None = None
    rollout: Annotated[float, BeforeValidator(rollout_percent)] = 100.0
    """Off, on, or a percent of the tier's tenants."""
    newcomer_files_bytes: Count = 64 * 2**20
    """Of files that a tenant keeps before its first order."""
    batch_images: Annotated[int, Field(ge=0)] | None = None
    """In a tenant's batches that have not ended, beside `images_per_day`; 0: no batches."""


class TighteningSection(Section):
    """What a tier promises at most while a threshold is passed. See autoscaling.limits."""

    images_per_day: Count | None = None
    concurrent_renders: Count | None = None
    queued_jobs: Count | None = None
    rollout: Annotated[float, BeforeValidator(rollout_percent)] = 100.0
    """Of tenants that have never ordered anything."""


class ThresholdSection(Section):
    """A degree of heat, in seconds that the lane needs for what waits and runs: passed over
    above_seconds, left under below_seconds, each once it was so for hold_seconds."""

    above_seconds: float
    below_seconds: float
    hold_seconds: float = 10.0
    tiers: Annotated[dict[str, TighteningSection], Field(min_length=1)]

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        thresholds_of([self.model_dump()])
        return self


class QuotaSection(Section):
    """When the day of `images_per_day` begins."""

    time_zone: Zone = "UTC"
    """An IANA name: at midnight there."""

    def days(self) -> QuotaDays:
        """As the ledger takes it."""
        return QuotaDays(ZoneInfo(self.time_zone))


class RetentionSection(Section):
    """How long what is kept after a job's end; idempotency keys count from its arrival, and files
    from theirs."""

    previews_seconds: Seconds = 3_600.0
    images_seconds: Seconds = 604_800.0
    rows_seconds: Seconds = 2_592_000.0
    idempotency_seconds: Annotated[float, Field(gt=0, le=86_400)] = 86_400.0
    files_seconds: Seconds = 2_592_000.0
    verdicts_seconds: Seconds = 15_552_000.0
    """Of the audit log of the safety screens: half a year."""
    webhooks_seconds: Seconds = 604_800.0
    """Of deliveries of webhooks, after they were made or given up."""

    @model_validator(mode="after")
    def _rows_stay_longest(self) -> Self:
        if not self.previews_seconds <= self.images_seconds <= self.rows_seconds:
            raise ValueError("must be previews_seconds <= images_seconds <= rows_seconds")
        if self.idempotency_seconds > self.rows_seconds:
            raise ValueError("idempotency_seconds must be at most rows_seconds")
        return self


class RemoteImagesSection(Section):
    """From where pictures of edits are fetched when a client sends a URL."""

    hosts: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z0-9.*:-]+$")], ...], Field(strict=False)
    ] = ()
    """Names, in which * stands for anything; none is allowed at first."""
    max_bytes: Count = 20 * 2**20
    """Of one picture."""
    seconds: Seconds = 10.0
    """Of one picture."""


class LimitsSection(Section):
    """What one request may ask for, and how often a client may ask without ordering anything. Rates
    are for each gateway, with four seconds' worth at once."""

    prompt_characters: Annotated[int, Field(ge=1, le=32_000)] = 32_000
    body_bytes: Count = 1_048_576
    image_bytes: Annotated[int, Field(ge=1, le=64 * 2**20)] = 20 * 2**20
    """Of one picture that is sent."""
    files: Count = 100
    """That a tenant keeps at once."""
    files_bytes: Count = 256 * 2**20
    """Of all of them."""
    batches: Count = 20
    """Of one tenant that have not ended."""
    batch_lines: Annotated[int, Field(ge=1, le=50_000)] = 50_000
    batch_bytes: Annotated[int, Field(ge=1, le=200 * 2**20)] = 200 * 2**20
    """Of one input file."""
    batch_files_bytes: Count = 2**30
    """Of all input files that a tenant keeps."""
    images: Annotated[int, Field(ge=1, le=10)] = 10
    max_pixels: Annotated[int, Field(ge=256, le=MAX_PIXELS)] = MAX_PIXELS
    deadline_seconds: Seconds = 86_400.0
    """Then a queued job expires."""
    body_seconds: Seconds = 30.0
    """Within which a body must have arrived."""
    polls_per_second: Seconds = 50.0
    """Of one tenant, a list counting as the rows that it reads."""
    refused_per_second: Seconds = 10.0
    """Invalid orders of one tenant."""
    watchers: Count = 500
    """Requests of one tenant that wait for a picture, or stream, at one gateway."""
    answer_bytes_per_second: Count = 8 * 2**20
    """Of the pictures that one gateway writes to one tenant, after the first 8 MiB."""
    unauthenticated_per_second: Seconds = 10.0
    """Of one address without a valid key."""
    remote_images: RemoteImagesSection = RemoteImagesSection()


class QualitiesSection(Section):
    """Passes per image for each quality; `auto` means medium. Null: the model has no such one."""

    low: Count | None = 8
    medium: Count = 12
    high: Count | None = 16
    xhigh: Count | None = 24
    max: Count | None = 32

    def offered(self) -> dict[str, int]:
        """Without those that are null."""
        return {name: passes for name, passes in self.model_dump().items() if passes is not None}
