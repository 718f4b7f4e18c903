"""The sections of a configuration that say what is screened for and what follows from it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.classifiers.checkpoint import ClassifierSpec, spec_of
from engine.policy import SafetyPolicy, policy_of
from jobs.verdicts import StrikeRules
from serve_app.config.sections import Count, Seconds, Section, Share, require_no_replicas


class ClassifierSection(Section):
    """A checkpoint of Hugging Face's format that screens beside the embedded classifiers."""

    kind: Literal["text", "coded-guard", "question-guard", "image", "zero-shot"]
    """Of prompts (a classification head, or a language model that writes codes or answers
    questions), of pictures by the checkpoint's labels, or of pictures by labels written here."""
    path: Annotated[str, Field(min_length=1)]
    """Its folder, on every node that classifiers run on."""
    labels: Annotated[dict[str, str], Field(min_length=1)]
    """Which category a label means; for zero-shot, `harmless` means none."""
    threshold: float = 0.5
    """The probability from which on the presets block, between 0 and 1."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        self.spec()
        return self

    def spec(self) -> ClassifierSpec:
        """As classifiers take it. ValueError, beginning with the field."""
        return spec_of(self.model_dump())


class SafetySection(Section):
    """Classifiers of prompts, previews and final images."""

    local: bool = False
    """In a child process of each dispatcher, not in replicas of a deployment."""
    screens: Annotated[tuple[Literal["sexual", "weapons"], ...], Field(strict=False)] = (
        "sexual",
        "weapons",
    )
    """Image classifiers that run on previews and finals."""
    prompt: bool = True
    """Screen prompts, too."""
    classifiers: Annotated[tuple[ClassifierSection, ...], Field(strict=False)] = ()
    """The operator's own, beside those."""
    log_prompts: bool = False
    """The audit log of verdicts holds the prompts themselves, not their digests alone."""
    screen_at: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False)] = (
        0.5,
    )
    """Shares of the passes after which a render is screened without a preview, to stop bad ones
    early; finals and previews are screened in any case."""
    threads: Count = 1
    replicas: Count = 1
    num_cpus: Share = 0.1

    @model_validator(mode="after")
    def _local_ones_are_no_replicas(self) -> Self:
        require_no_replicas(self)
        return self

    def specs(self) -> tuple[ClassifierSpec, ...]:
        """The operator's classifiers, as replicas take them."""
        return tuple(section.spec() for section in self.classifiers)


class RuleSection(Section):
    """When which action is taken; see engine.policy.Rule. What is left out fits everything."""

    actions: dict[str, float]
    """From which score on, 0..1: {flag: 0.3, block: 0.8}; {allow: 0} takes none."""
    categories: Annotated[tuple[str, ...], Field(strict=False)] = ()
    stages: Annotated[tuple[str, ...], Field(strict=False)] = ()
    tiers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    moderation: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Levels that requests ask for: auto, low."""
    up_to: float | None = None
    """Of previews alone: the share of the passes until which it holds."""


class ModerationSection(Section):
    """The safety policy: rules on top of the presets of a request's `moderation`, of which the last
    one that fits decides."""

    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "default"
    """Every verdict names it."""
    rules: Annotated[tuple[RuleSection, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        self.policy()
        return self

    def policy(self) -> SafetyPolicy:
        """As classifiers take it. ValueError, beginning with the field."""
        return policy_of(self.model_dump())


class StrikesSection(Section):
    """Tenants whose orders are blocked again and again wait for a while. See jobs.verdicts."""

    blocks: Count | None = None
    """Strikes from which on; null counts none."""
    within_seconds: Seconds = 3_600.0
    cooldown_seconds: Seconds = 900.0
    """After the newest one."""

    def rules(self) -> StrikeRules:
        """As they are applied."""
        return StrikeRules(**self.model_dump())
