"""The safety policy as data: which score of which category leads to which action. Pure.

Classifiers give scores, the policy decides: nothing here knows how a score came about. Rules are
tried in order and the last one that fits a category, a stage, a tier, a moderation level and the
share of the passes decides alone; the presets of `moderation` come before those of the operator.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

from engine.releases import between_releases
from engine.verdict import Verdict

E = TypeVar("E", bound=StrEnum)
OWN_LINE = 0.5
"""Where every classifier puts its own threshold; see `calibrated`."""


class Category(StrEnum):
    """What is screened for, in OpenAI's words where it has one."""

    SEXUAL = "sexual"
    MINORS = "minors"
    VIOLENCE = "violence"
    HATE = "hate"  # symbols in pictures, words and symbols in prompts
    SELF_HARM = "self-harm"
    WEAPONS = "weapons"
    REAL_PERSONS = "real-persons"  # and deepfakes of them


class ScreenStage(StrEnum):
    """At what point something is screened."""

    PROMPT = "prompt"
    NEGATIVE_PROMPT = "negative-prompt"
    INPUT_IMAGE = "input-image"
    PREVIEW = "preview"
    FINAL = "final"

    @property
    def side(self) -> str:
        """OpenAI's word for it: input or output."""
        return "output" if self in (ScreenStage.PREVIEW, ScreenStage.FINAL) else "input"


class Action(StrEnum):
    """What is done, from the mildest to the severest."""

    ALLOW = "allow"
    FLAG = "flag"  # delivered, and listed for review
    BLOCK = "block"


MODERATION = ("auto", "low")
_SEVERITY = {action: rank for rank, action in enumerate(Action)}
_IMAGES = (ScreenStage.INPUT_IMAGE, ScreenStage.PREVIEW, ScreenStage.FINAL)


@dataclass(frozen=True, slots=True)
class Scores:
    """What classifiers say of one prompt or one picture. of: 0..1 by category, calibrated so that
    OWN_LINE is where the classifier itself would draw the line. screen: which classifiers, joined
    by "+"."""

    of: tuple[tuple[Category, float], ...] = ()
    screen: str = "none"


@between_releases
@dataclass(frozen=True, slots=True)
class Look:
    """What is looked at: at which stage, for which tier, at which level of moderation, and after
    which share of the passes (0..1)."""

    stage: ScreenStage
    tier: str = ""
    moderation: str = "auto"
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Rule:
    """From which score on an action is taken, the severest one that a score reaches; below all of
    them it is allowed. An empty condition fits everything, but for negative prompts, whose stage
    has to be named. up_to: of previews alone, the share of the passes until which the rule holds.
    ValueError, beginning with the field's name."""

    actions: tuple[tuple[Action, float], ...]
    categories: tuple[Category, ...] = ()
    stages: tuple[ScreenStage, ...] = ()
    tiers: tuple[str, ...] = ()
    moderation: tuple[str, ...] = ()
    up_to: float | None = None

    def __post_init__(self) -> None:
        if not self.actions:
            raise ValueError("actions: must name at least one, such as {block: 0.5} or {allow: 0}")
        for action, threshold in self.actions:
            _within(f"actions.{action}", threshold)
        if self.up_to is not None:
            _within("up_to", self.up_to)

    def fits(self, category: Category, look: Look) -> bool:
        """Whether it says anything about that."""
        early = self.up_to is None or (
            look.stage is ScreenStage.PREVIEW and look.share <= self.up_to
        )
        named = self.stages or look.stage is not ScreenStage.NEGATIVE_PROMPT
        return bool(early and named) and all(
            not wanted or found in wanted
            for wanted, found in (
                (self.categories, category),
                (self.stages, look.stage),
                (self.tiers, look.tier),
                (self.moderation, look.moderation),
            )
        )

    def action(self, score: float) -> Action:
        """The severest one that the score reaches."""
        reached = [action for action, threshold in self.actions if score >= threshold]
        return max(reached, key=_SEVERITY.__getitem__, default=Action.ALLOW)


def _within(field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{field}: must be within 0..1, not {value:g}")


_MILDER = Rule(
    ((Action.BLOCK, 0.75),),
    categories=tuple(c for c in Category if c not in (Category.MINORS, Category.REAL_PERSONS)),
)
PRESETS = (
    Rule(((Action.BLOCK, OWN_LINE),)),
    replace(_MILDER, stages=(ScreenStage.PREVIEW,), up_to=0.75),
    replace(_MILDER, stages=_IMAGES, moderation=("low",)),
    Rule(((Action.ALLOW, 0.0),), stages=(ScreenStage.NEGATIVE_PROMPT,)),
)
"""`moderation: auto`, and what `low` loosens: pictures alone, never of minors or of real people.
A preview is blurry for three quarters of the passes, and looks more like what it is not: at the
line of finals, previews would stop three times as many harmless renders as finals do.
Words of a negative prompt are what a picture shall not show: they are scored, and refused by no
preset; what is drawn is screened all the same."""


@dataclass(frozen=True)
class SafetyPolicy:
    """Rules of an operator on top of the presets. version: the operator's name for them."""

    version: str = "default"
    rules: tuple[Rule, ...] = ()

    @cached_property
    def name(self) -> str:
        """Its version, and a digest of all rules: rules that differ never have the same name."""
        rules = json.dumps([asdict(rule) for rule in (*PRESETS, *self.rules)])
        return f"{self.version}@{hashlib.sha256(rules.encode()).hexdigest()[:8]}"

    def decide(self, scores: Scores, look: Look) -> Verdict:
        """What becomes of something that has these scores."""
        if look.moderation not in MODERATION:
            raise ValueError(f"moderation must be auto or low, got {look.moderation!r}")
        taken = {name: self._rule(name, look).action(score) for name, score in scores.of}
        return Verdict(
            blocked=Action.BLOCK in taken.values(),
            categories=_of(taken, Action.BLOCK),
            scores=scores.of,
            screen=scores.screen,
            flagged=_of(taken, Action.FLAG),
            policy=self.name,
        )

    def _rule(self, category: Category, look: Look) -> Rule:
        every = (*PRESETS, *self.rules)
        return next(rule for rule in reversed(every) if rule.fits(category, look))


DEFAULT_POLICY = SafetyPolicy()
"""The presets alone."""


def _of(taken: Mapping[Category, Action], wanted: Action) -> tuple[str, ...]:
    return tuple(category for category, action in taken.items() if action is wanted)


def calibrated(score: float, threshold: float) -> float:
    """A classifier's own score on the policy's scale: 0 stays 0 and 1 stays 1, its own threshold
    (0..1, both excluded) becomes OWN_LINE, and in between it is linear."""
    if score < threshold:
        return OWN_LINE * score / threshold
    return 1 - OWN_LINE * (1 - score) / (1 - threshold)


def joined(scores: Iterable[Scores]) -> Scores:
    """Several classifiers on one thing: the highest score of each category."""
    scores = list(scores)
    highest: dict[Category, float] = {}
    for one in scores:
        for category, score in one.of:
            highest[category] = max(score, highest.get(category, 0.0))
    screens = dict.fromkeys(one.screen for one in scores if one.of) or {"none": None}
    return Scores(tuple(highest.items()), "+".join(screens))


def policy_of(document: Mapping[str, Any]) -> SafetyPolicy:
    """From a config's `policy`: version, and rules as mappings. ValueError, beginning with the path
    of the field."""
    rules = []
    for number, rule in enumerate(document.get("rules") or ()):
        try:
            rules.append(_rule_of(rule))
        except ValueError as error:
            raise ValueError(f"rules.{number}.{error}") from None
    return SafetyPolicy(str(document.get("version") or "default"), tuple(rules))


def _rule_of(rule: Mapping[str, Any]) -> Rule:
    actions = rule.get("actions") or {}
    names = _members(Action, "actions", actions)
    levels = tuple(rule.get("moderation") or ())
    for level in levels:
        if level not in MODERATION:
            raise ValueError(f"moderation: unknown level {level!r}, known: auto, low")
    return Rule(
        actions=tuple(zip(names, (float(at) for at in actions.values()), strict=True)),
        categories=_members(Category, "categories", rule.get("categories") or ()),
        stages=_members(ScreenStage, "stages", rule.get("stages") or ()),
        tiers=tuple(rule.get("tiers") or ()),
        moderation=levels,
        up_to=rule.get("up_to"),
    )


def _members(kind: type[E], field: str, names: Iterable[str]) -> tuple[E, ...]:
    known = [str(member) for member in kind]
    for name in names:
        if name not in known:
            raise ValueError(f"{field}: unknown {_WORDS[field]} {name!r}, {_meant(name, known)}")
    return tuple(kind(name) for name in names)


_WORDS = {"actions": "action", "categories": "category", "stages": "stage"}


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
