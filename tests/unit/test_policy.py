"""The safety policy: which score of which category leads to which action."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import pytest

from engine.policy import (
    DEFAULT_POLICY,
    Action,
    Category,
    Look,
    SafetyPolicy,
    Scores,
    ScreenStage,
    calibrated,
    joined,
    policy_of,
)

FINAL = Look(ScreenStage.FINAL)


def scores(**found: float) -> Scores:
    of = tuple((Category(name.replace("_", "-")), score) for name, score in found.items())
    return Scores(of, "one")


def policy(*rules: dict[str, object]) -> SafetyPolicy:
    return policy_of({"version": "house", "rules": rules})


@pytest.mark.parametrize("stage", [s for s in ScreenStage if s != "negative-prompt"])
@pytest.mark.parametrize("category", list(Category))
def test_the_preset_auto_blocks_at_each_classifiers_own_line(
    stage: ScreenStage, category: Category
) -> None:
    look = Look(stage)
    over = DEFAULT_POLICY.decide(Scores(((category, 0.5),), "one"), look)
    assert over.categories == (category,)
    assert over.blocked
    assert not DEFAULT_POLICY.decide(Scores(((category, 0.499),), "one"), look).blocked


@pytest.mark.parametrize(
    ("stage", "category", "score", "blocked"),
    [
        (ScreenStage.FINAL, "sexual", 0.74, False),
        (ScreenStage.FINAL, "sexual", 0.75, True),
        (ScreenStage.PREVIEW, "weapons", 0.74, False),
        (ScreenStage.INPUT_IMAGE, "weapons", 0.74, False),
        (ScreenStage.PROMPT, "sexual", 0.5, True),
        (ScreenStage.FINAL, "minors", 0.5, True),
        (ScreenStage.FINAL, "real-persons", 0.5, True),
    ],
)
def test_the_preset_low_is_milder_with_pictures_but_not_of_minors_or_real_people(
    stage: ScreenStage, category: str, score: float, blocked: bool
) -> None:
    look = Look(stage, moderation="low")
    one = Scores(((Category(category), score),), "one")
    assert DEFAULT_POLICY.decide(one, look).blocked is blocked


@pytest.mark.parametrize(
    ("share", "category", "line"),
    [
        (0.33, "weapons", 0.75),
        (0.75, "sexual", 0.75),
        (0.76, "sexual", 0.5),
        (0.33, "minors", 0.5),
        (0.33, "real-persons", 0.5),
    ],
)
@pytest.mark.parametrize("moderation", ["auto", "low"])
def test_the_presets_stop_a_blurry_preview_only_when_they_are_sure(
    share: float, category: str, line: float, moderation: str
) -> None:
    look = Look(ScreenStage.PREVIEW, moderation=moderation, share=share)
    if moderation == "low" and share > 0.75:
        line = 0.75
    over, under = (Scores(((Category(category), at),), "one") for at in (line, line - 0.01))
    assert DEFAULT_POLICY.decide(over, look).blocked
    assert not DEFAULT_POLICY.decide(under, look).blocked


def test_what_a_picture_shall_not_show_is_refused_only_if_a_rule_says_so() -> None:
    look = Look(ScreenStage.NEGATIVE_PROMPT)
    assert not DEFAULT_POLICY.decide(scores(sexual=1.0, minors=1.0), look).blocked
    strict = policy({"categories": ["sexual"], "actions": {"block": 0.1}})
    assert not strict.decide(scores(sexual=1.0), look).blocked, "it names no negative prompts"
    ours = policy({"stages": ["negative-prompt"], "actions": {"block": 0.9}})
    assert ours.decide(scores(sexual=1.0), look).blocked


def test_the_last_rule_that_fits_decides_alone() -> None:
    ours = policy(
        {"categories": ["weapons"], "actions": {"flag": 0.3, "block": 0.9}},
        {"categories": ["weapons"], "tiers": ["press"], "actions": {"allow": 0}},
        {"categories": ["sexual"], "stages": ["final"], "actions": {"block": 0.2}},
    )
    found = ours.decide(scores(weapons=0.8, sexual=0.3, violence=0.4), FINAL)
    assert (found.categories, found.flagged, found.blocked) == (("sexual",), ("weapons",), True)
    assert found.scores == (("weapons", 0.8), ("sexual", 0.3), ("violence", 0.4))
    assert found.screen == "one"
    assert ours.decide(scores(weapons=0.95), FINAL).categories == ("weapons",)
    press = ours.decide(scores(weapons=1.0), Look(ScreenStage.FINAL, "press"))
    assert (press.blocked, press.flagged) == (False, ())
    assert not ours.decide(scores(sexual=0.3), Look(ScreenStage.PREVIEW)).blocked


def test_thresholds_of_previews_go_by_the_share_of_the_passes() -> None:
    ours = policy({"stages": ["preview"], "up_to": 0.5, "actions": {"block": 0.9}})
    blurry = Look(ScreenStage.PREVIEW, share=0.5)
    assert not ours.decide(scores(sexual=0.8), blurry).blocked
    assert ours.decide(scores(sexual=0.9), blurry).blocked
    assert ours.decide(scores(sexual=0.8), replace(blurry, share=0.51)).blocked
    anywhere = policy({"up_to": 1, "actions": {"allow": 0}})
    assert anywhere.decide(scores(sexual=0.8), FINAL).blocked, "up_to is about previews alone"


def test_the_name_of_a_policy_tells_its_rules_apart_and_survives_the_way() -> None:
    one, other = policy({"actions": {"block": 0.4}}), policy({"actions": {"block": 0.5}})
    assert one.name.startswith("house@")
    assert one.name != other.name
    assert pickle.loads(pickle.dumps(one)).name == one.name
    assert one.decide(scores(), FINAL).policy == one.name


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"actions": {"blok": 0.5}}, "rules.0.actions: unknown action 'blok', did you mean block?"),
        ({"actions": {"block": 1.5}}, "rules.0.actions.block: must be within 0..1, not 1.5"),
        ({"actions": {"block": -0.1}}, "rules.0.actions.block: must be within 0..1"),
        ({"actions": {"block": float("nan")}}, "rules.0.actions.block: must be within 0..1"),
        ({}, "rules.0.actions: must name at least one"),
        (
            {"categories": ["weapon"], "actions": {"block": 1}},
            "rules.0.categories: unknown category 'weapon', did you mean weapons?",
        ),
        (
            {"stages": ["output"], "actions": {"block": 1}},
            "rules.0.stages: unknown stage 'output', known: prompt, ",
        ),
        ({"moderation": ["none"], "actions": {"block": 1}}, "rules.0.moderation: unknown level"),
        ({"up_to": 2, "actions": {"block": 1}}, "rules.0.up_to: must be within 0..1"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_its_field(
    rule: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        policy(rule)


def test_a_level_of_moderation_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="moderation must be auto or low"):
        DEFAULT_POLICY.decide(scores(), Look(ScreenStage.FINAL, moderation="none"))


@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.61, 0.99])
def test_calibration_keeps_order_and_side(threshold: float) -> None:
    raw = [0.0, threshold * 0.5, threshold - 1e-9, threshold, (1 + threshold) / 2, 1.0]
    found = [calibrated(score, threshold) for score in raw]
    assert found == sorted(found)
    assert (found[0], found[3], found[-1]) == (0.0, 0.5, 1.0)
    assert found[2] < 0.5
    assert found[4] == pytest.approx(0.75)


def test_joined_scores_are_the_highest_of_each_category() -> None:
    other = Scores(((Category.SEXUAL, 0.9),), "two")
    both = joined([scores(sexual=0.1, weapons=0.2), other, Scores()])
    assert both == Scores(((Category.SEXUAL, 0.9), (Category.WEAPONS, 0.2)), "one+two")
    assert joined([]) == Scores()


def test_actions_stand_in_the_order_of_their_severity() -> None:
    ours = policy({"actions": {"block": 0.9, "allow": 0.95, "flag": 0.2}})
    assert ours.decide(scores(sexual=0.96), FINAL).blocked
    assert [*Action] == [Action.ALLOW, Action.FLAG, Action.BLOCK]
