"""The configuration: frozen sections, read once, refused at start with the path of a wrong field.

A ClusterConfig is the `args` of an application in a Serve config file (serve_file.py). Relative
paths count from the working directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from autoscaling.limits import Threshold, check_thresholds, thresholds_of
from jobs.policy.fair_queue import LEAST_SHARE
from jobs.tiers import Tier
from serve_app.config.errors import ConfigError, problems
from serve_app.config.sections import (
    BlobsSection,
    DecoderSection,
    DispatcherSection,
    EncoderSection,
    GatewaySection,
    KeySection,
    LedgerSection,
    LimitsSection,
    ModelSection,
    QualitiesSection,
    QuotaSection,
    RetentionSection,
    SafetySection,
    ScalingSection,
    Section,
    SigningSection,
    ThresholdSection,
    TierSection,
)

T = TypeVar("T", bound=Section)


def environment() -> Mapping[str, str]:
    """The variables of this process; no other code reads them."""
    return os.environ


class ClusterConfig(Section):
    """The `args` of one Serve application: one lane, whole."""

    lane: Annotated[str, Field(min_length=1)] = "default"
    model: ModelSection = ModelSection()
    decoder: DecoderSection = DecoderSection()
    encoder: EncoderSection = EncoderSection()
    safety: SafetySection = SafetySection()
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
    quota: QuotaSection = QuotaSection()
    limits: LimitsSection = LimitsSection()
    qualities: QualitiesSection = QualitiesSection()
    retention: RetentionSection = RetentionSection()
    scaling: ScalingSection = ScalingSection()

    def tier_promises(self) -> dict[str, Tier]:
        """The tiers as the ledger takes them."""
        kept_here = {"newcomer_files_bytes"}
        return {name: Tier(**t.model_dump(exclude=kept_here)) for name, t in self.tiers.items()}

    def thresholds(self) -> tuple[Threshold, ...]:
        """When limits are tightened, and how."""
        return thresholds_of([section.model_dump() for section in self.temporary_limits])

    def signing_secrets(self) -> dict[str, bytes]:
        """By key id, the minting one first. Reads files. ConfigError, naming the field."""
        return {s.id: s.read(f"signing.{number}") for number, s in enumerate(self.signing)}

    def audiences(self) -> dict[str, str]:
        """By key id, the audience that its tokens must name."""
        return {s.id: s.audience for s in self.signing if s.audience is not None}

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        if len(self.tiers) * self.least_share > 1:
            promised = f"{len(self.tiers)} tiers with {self.least_share:.0%} each"
            raise ValueError(f"least_share: {promised} are over 100 %")
        return self

    @model_validator(mode="after")
    def _waits_are_of_tiers(self) -> Self:
        for tier in self.scaling.tier_wait_seconds or {}:
            if tier not in self.tiers:
                known = ", ".join(sorted(self.tiers))
                raise ValueError(
                    f"scaling.tier_wait_seconds.{tier}: unknown tier {tier!r}, known: {known}"
                )
        return self

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
            if key.key in seen:
                raise ValueError(f"keys.{number}.key: the same key appears twice")
            seen.add(key.key)
        ids = [section.id for section in self.signing]
        for number, key_id in enumerate(ids):
            if key_id in ids[:number]:
                raise ValueError(f"signing.{number}.id: the same id appears twice")
        return self


class LiveSection(Section):
    """What a deployment's `user_config` may change without restarting anything: whole sections of
    the args, in place of those of the start. Gateways read all of them, dispatchers the tiers and
    the temporary limits."""

    tiers: dict[str, TierSection] | None = None
    temporary_limits: Annotated[tuple[ThresholdSection, ...] | None, Field(strict=False)] = None
    keys: Annotated[tuple[KeySection, ...] | None, Field(strict=False, repr=False)] = None
    signing: Annotated[tuple[SigningSection, ...] | None, Field(strict=False, repr=False)] = None
    limits: LimitsSection | None = None
    qualities: QualitiesSection | None = None
    scaling: ScalingSection | None = None


def with_live(config: ClusterConfig, user_config: dict[str, Any]) -> ClusterConfig:
    """The config of the start with the sections that `user_config` names replaced. ConfigError."""
    live = checked(LiveSection, user_config, "user_config")
    sections = {name: value for name, value in live.model_dump().items() if value is not None}
    return checked(ClusterConfig, {**config.model_dump(), **sections}, "user_config")


def parse_cluster_config(args: object, source: str = "args") -> ClusterConfig:
    """One application's args. Raises ConfigError."""
    return checked(ClusterConfig, args, source)


def checked(section: type[T], document: object, source: str) -> T:
    """The document as that section. Raises ConfigError; `source` says where it is from."""
    try:
        return section.model_validate(document)
    except ValidationError as error:
        raise ConfigError(*(f"{source}: {one}" for one in problems(section, error))) from None
