"""The sections of a configuration that say what is screened for and what follows from it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from engine.policy import SafetyPolicy, policy_of
from jobs.verdicts import StrikeRules
from serve_app.config.sections import Count, Seconds, Section


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
