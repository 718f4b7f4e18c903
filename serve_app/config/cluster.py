"""The configuration: frozen sections, read once, refused at start with the path of a wrong field.

A ClusterConfig is the `args` of an application in a Serve config file (serve_file.py). Relative
paths count from the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from autoscaling.limits import Threshold, check_thresholds, thresholds_of
from deployments.telemetry import Telemetry
from dispatch.identity import IdentityFiles
from jobs.policy.fair_queue import LEAST_SHARE
from jobs.queues import lane_of, queue_name
from jobs.request import BATCH_TIER, Tenant
from jobs.tiers import Tier
from serve_app.config.blobs import BlobsSection
from serve_app.config.errors import ConfigError, problems, unknown
from serve_app.config.keys import KeySection, SigningSection
from serve_app.config.logs import LogsSection
from serve_app.config.moderation import ModerationSection, SafetySection, StrikesSection
from serve_app.config.oidc import AuthSection
from serve_app.config.provenance import ProvenanceSection
from serve_app.config.sections import (
    DecoderSection,
    DispatcherSection,
    EncoderSection,
    GatewaySection,
    LedgerSection,
    LimitsSection,
    MetricsSection,
    ModelSection,
    QualitiesSection,
    QuotaSection,
    RetentionSection,
    ScalingSection,
    Section,
    ThresholdSection,
    TierSection,
)
from serve_app.config.spellings import Lane
from serve_app.config.traces import TracesSection
from serve_app.config.webhooks import WebhooksSection

T = TypeVar("T", bound=Section)
LoraTenants = dict[str, Annotated[tuple[str, ...], Field(strict=False)]]
"""Tenants by the name of a LoRA."""


def environment() -> Mapping[str, str]:
    """The variables of this process; no other code reads them."""
    return os.environ


class ServedModelSection(ModelSection):
    """One of several models of a lane. A section of its own takes the place of the one of that name
    beside `models`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    decoder: DecoderSection | None = None
    encoder: EncoderSection | None = None
    dispatcher: DispatcherSection | None = None
    qualities: QualitiesSection | None = None
    scaling: ScalingSection | None = None
    lora_tenants: LoraTenants | None = None


OWN_SECTIONS = ("decoder", "encoder", "dispatcher", "qualities", "scaling", "lora_tenants")
"""What each of several models may have for itself."""


class ClusterConfig(Section):
    """The `args` of one Serve application: one lane, whole."""

    lane: Lane = "default"
    model: ModelSection = ModelSection()
    models: Annotated[tuple[ServedModelSection, ...], Field(strict=False)] = ()
    """In place of `model`: the lane's models, of which the first one is meant by requests that name
    none."""
    decoder: DecoderSection = DecoderSection()
    encoder: EncoderSection = EncoderSection()
    safety: SafetySection = SafetySection()
    moderation: ModerationSection = ModerationSection()
    strikes: StrikesSection = StrikesSection()
    dispatcher: DispatcherSection = DispatcherSection()
    gateway: GatewaySection = GatewaySection()
    ledger: LedgerSection = LedgerSection()
    blobs: BlobsSection = BlobsSection()
    tiers: dict[str, TierSection] = {"free": TierSection(images_per_day=3)}
    temporary_limits: Annotated[tuple[ThresholdSection, ...], Field(strict=False)] = ()
    least_share: Annotated[float, Field(gt=0, le=1)] = LEAST_SHARE
    """Of the lane, for every tier that has work, however small its weight."""
    keys: Annotated[tuple[KeySection, ...], Field(strict=False, repr=False)] = ()
    signing: Annotated[tuple[SigningSection, ...], Field(strict=False, repr=False)] = ()
    auth: AuthSection = AuthSection()
    quota: QuotaSection = QuotaSection()
    provenance: ProvenanceSection = ProvenanceSection()
    limits: LimitsSection = LimitsSection()
    qualities: QualitiesSection = QualitiesSection()
    retention: RetentionSection = RetentionSection()
    metrics: MetricsSection = MetricsSection()
    traces: TracesSection = TracesSection()
    logs: LogsSection = LogsSection()
    scaling: ScalingSection = ScalingSection()
    webhooks: WebhooksSection = WebhooksSection()
    lora_tenants: LoraTenants = {}
    """LoRAs that only these tenants may use; of those that are not named all tenants may."""

    @property
    def queue(self) -> str:
        """Where the jobs of `model` wait in the ledger."""
        return self.model.queue or self.lane

    def each(self) -> tuple[ClusterConfig, ...]:
        """The lane's models one by one: for each the config of a lane that has only it."""
        if not self.models:
            return (self,)
        return tuple(self._only(number, model) for number, model in enumerate(self.models))

    def _only(self, number: int, model: ServedModelSection) -> ClusterConfig:
        own = {name: getattr(model, name) for name in OWN_SECTIONS}
        queue = model.queue or (queue_name(self.lane, model.name) if number else self.lane)
        fields = {**model.model_dump(exclude=set(OWN_SECTIONS)), "queue": queue}
        sections = {name: section for name, section in own.items() if section is not None}
        update = {"models": (), "model": ModelSection(**fields), **sections}
        return self.model_copy(update=update)

    def tier_promises(self) -> dict[str, Tier]:
        """The tiers as the ledger takes them."""
        kept_here = {"newcomer_files_bytes", "batch_images"}
        return {name: Tier(**t.model_dump(exclude=kept_here)) for name, t in self.tiers.items()}

    def thresholds(self) -> tuple[Threshold, ...]:
        """When limits are tightened, and how."""
        return thresholds_of([section.model_dump() for section in self.temporary_limits])

    def tenants_by_key(self) -> dict[str, Tenant]:
        """Whose the keys of the configuration are. Reads files. ConfigError, naming the field."""
        found: dict[str, Tenant] = {}
        for number, one in enumerate(self.keys):
            key = one.read(f"keys.{number}")
            if key in found:
                raise ConfigError(f"keys.{number}.file: the same key appears twice")
            found[key] = Tenant(one.tenant, one.tier, one.role)
        return found

    def signing_secrets(self) -> dict[str, bytes]:
        """By key id, the minting one first. Reads files. ConfigError, naming the field."""
        return {s.id: s.read(f"signing.{number}") for number, s in enumerate(self.signing)}

    def telemetry(self) -> Telemetry:
        """What replicas that work for `model` tell of themselves."""
        traces, logs = self.traces.settings(), self.logs.settings()
        return Telemetry(self.model.name, self.metrics.settings(), traces, logs)

    def identity_files(self) -> IdentityFiles:
        """What pictures are marked, signed and checked with."""
        return self.provenance.files(self.blobs.directory)

    @model_validator(mode="after")
    def _made_keys_have_a_place(self) -> Self:
        made = self.provenance.makes_keys and self.provenance.directory is None
        if self.blobs.s3 is not None and made:
            raise ValueError(
                "provenance.directory: is missing: pictures are in a bucket, where no secret is "
                "kept; name a directory that all nodes share, or give keys, certificate and "
                "private_key"
            )
        return self

    def audiences(self) -> dict[str, str]:
        """By key id, the audience that its tokens must name."""
        return {s.id: s.audience for s in self.signing if s.audience is not None}

    def operator_signers(self) -> frozenset[str]:
        """Ids of the keys whose tokens may carry the role of an operator."""
        return frozenset(section.id for section in self.signing if section.operators)

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if BATCH_TIER in self.tiers:
            raise ValueError(f"tiers.{BATCH_TIER}: is the name of what batches are drawn with")
        if len(self.tiers) * self.least_share > 1:
            promised = f"{len(self.tiers)} tiers with {self.least_share:.0%} each"
            raise ValueError(f"least_share: {promised} are over 100 %")
        return self

    @model_validator(mode="after")
    def _waits_are_of_tiers(self) -> Self:
        theirs = {f"models.{n}.scaling": one.scaling for n, one in enumerate(self.models)}
        for path, scaling in {"scaling": self.scaling, **theirs}.items():
            for tier in (scaling and scaling.tier_wait_seconds) or {}:
                if tier not in self.tiers:
                    known = ", ".join(sorted(self.tiers))
                    raise ValueError(
                        f"{path}.tier_wait_seconds.{tier}: unknown tier {tier!r}, known: {known}"
                    )
        return self

    @model_validator(mode="after")
    def _rules_are_of_tiers(self) -> Self:
        for number, rule in enumerate(self.moderation.rules):
            if missing := sorted({*rule.tiers} - self.tiers.keys()):
                where, known = f"moderation.rules.{number}.tiers", ", ".join(sorted(self.tiers))
                raise ValueError(f"{where}: unknown tier {missing[0]!r}, known: {known}")
        return self

    @model_validator(mode="after")
    def _models_are_apart(self) -> Self:
        if self.models and self.model != ModelSection():
            raise ValueError("model: leave it out, `models` says which there are")
        names: dict[str, str] = {}
        queues: dict[str, str] = {}
        for number, one in enumerate(self.each()):
            path = f"models.{number}" if self.models else "model"
            if lane_of(one.queue) != self.lane:
                wanted = f"must be {self.lane!r} or begin with '{self.lane}/'"
                raise ValueError(f"{path}.queue: {wanted}")
            if (owner := queues.setdefault(one.queue, one.model.name)) != one.model.name:
                raise ValueError(f"{path}.queue: {one.queue!r} is the queue of {owner!r} already")
            for name in {one.model.name, *one.model.aliases}:
                if names.setdefault(name, path) != path:
                    raise ValueError(f"{path}: {name!r} is a name of {names[name]} already")
        return self

    @model_validator(mode="after")
    def _loras_are_there(self) -> Self:
        """A name that is written wrong would leave a LoRA open to all tenants."""
        for number, one in enumerate(self.each()):
            own = self.models[number].lora_tenants if self.models else self.lora_tenants
            path = f"models.{number}.lora_tenants" if self.models else "lora_tenants"
            self._check_loras(path, own or {}, [one])
        self._check_loras("lora_tenants", self.lora_tenants, self.each())
        return self

    def _check_loras(self, path: str, kept: LoraTenants, models: Iterable[ClusterConfig]) -> None:
        listed = [one.model.options.get("loras") for one in models]
        known = {name for loras in listed if isinstance(loras, dict) for name in loras}
        for name in kept:
            if name not in known:
                raise ValueError(f"{path}.{name}: {unknown(name, known, 'LoRA')}")

    @model_validator(mode="after")
    def _thresholds_rise(self) -> Self:
        for number, threshold in enumerate(self.temporary_limits):
            if unknown := sorted(threshold.tiers.keys() - self.tiers.keys()):
                where = f"temporary_limits.{number}.tiers.{unknown[0]}"
                raise ValueError(f"{where}: unknown tier, known: {', '.join(sorted(self.tiers))}")
        try:
            check_thresholds(self.thresholds())
        except ValueError as error:
            raise ValueError(f"temporary_limits.{error}") from None
        return self

    @model_validator(mode="after")
    def _keys_make_sense(self) -> Self:
        seen: set[str] = set()
        for number, key in enumerate(self.keys):
            if key.tier not in self.tiers:
                known = ", ".join(sorted(self.tiers))
                raise ValueError(f"keys.{number}.tier: unknown tier {key.tier!r}, known: {known}")
            if key.key is not None and key.key in seen:
                raise ValueError(f"keys.{number}.key: the same key appears twice")
            seen.add(key.key or "")
        ids = [section.id for section in self.signing]
        for number, key_id in enumerate(ids):
            if key_id in ids[:number]:
                raise ValueError(f"signing.{number}.id: the same id appears twice")
        for problem in self.auth.unknown_tiers(self.tiers):
            raise ValueError(f"auth.{problem}")
        return self


def ending(lane: ClusterConfig, one: ClusterConfig) -> str:
    """What the names of a model's deployments end in, where its lane's application may have
    several. one: of `lane.each()`."""
    return f"-{one.model.name}" if lane.models else ""


def separate_model(config: ClusterConfig) -> ClusterConfig:
    """Of a model that is an application of its own: its queue is `lane/name` unless it has another
    one."""
    queue = config.model.queue or queue_name(config.lane, config.model.name)
    return config.model_copy(update={"model": config.model.model_copy(update={"queue": queue})})


class LiveModelSection(Section):
    """What may change of one of several models, in place of its sections of the start."""

    qualities: QualitiesSection | None = None
    scaling: ScalingSection | None = None
    lora_tenants: LoraTenants | None = None


class LiveSection(Section):
    """What a deployment's `user_config` may change without restarting anything: whole sections of
    the args, in place of those of the start. Classifiers, or the dispatchers whose children they
    are, read `moderation`, dispatchers the tiers and the temporary limits, gateways all the
    others."""

    tiers: dict[str, TierSection] | None = None
    temporary_limits: Annotated[tuple[ThresholdSection, ...] | None, Field(strict=False)] = None
    keys: Annotated[tuple[KeySection, ...] | None, Field(strict=False, repr=False)] = None
    signing: Annotated[tuple[SigningSection, ...] | None, Field(strict=False, repr=False)] = None
    auth: AuthSection | None = None
    limits: LimitsSection | None = None
    qualities: QualitiesSection | None = None
    scaling: ScalingSection | None = None
    lora_tenants: LoraTenants | None = None
    moderation: ModerationSection | None = None
    strikes: StrikesSection | None = None
    models: dict[str, LiveModelSection] | None = None
    """By name."""


def with_live(config: ClusterConfig, user_config: dict[str, Any]) -> ClusterConfig:
    """The config of the start with the sections that `user_config` names replaced. ConfigError."""
    live = checked(LiveSection, user_config, "user_config")
    said, started = live.model_dump(exclude={"models"}), config.model_dump()
    sections = {name: value for name, value in said.items() if value is not None}
    models = {model["name"]: model for model in started["models"]}
    for name, own in (live.models or {}).items():
        if name not in models:
            raise ConfigError(f"user_config: models.{name}: {unknown(name, models, 'model')}")
        models[name] |= own.model_dump(exclude_none=True)
    return checked(ClusterConfig, {**started, **sections}, "user_config")


def parse_cluster_config(args: object, source: str = "args") -> ClusterConfig:
    """One application's args. Raises ConfigError."""
    return checked(ClusterConfig, args, source)


def checked(section: type[T], document: object, source: str) -> T:
    """The document as that section. Raises ConfigError; `source` says where it is from."""
    try:
        return section.model_validate(document)
    except ValidationError as error:
        raise ConfigError(*(f"{source}: {one}" for one in problems(section, error))) from None
