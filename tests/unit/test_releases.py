"""What replicas of two releases send each other while an update rolls."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from typing import Any

import pytest

from engine.policy import Look, ScreenStage
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.releases import between_releases
from engine.render import Conditioning, RenderSpec, RenderUpdate, Source, UpdateKind
from engine.verdict import Verdict

MESSAGES = (
    Conditioning,
    Source,
    RenderSpec,
    RenderUpdate,
    PromptText,
    EncodedPrompt,
    Look,
    Verdict,
)


@between_releases
@dataclass(frozen=True, slots=True)
class Older:
    name: str
    alone: bool = False


@between_releases
@dataclass(frozen=True, slots=True)
class Newer:
    name: str
    trace: str | None = None
    alone: bool = False
    marks: tuple[int, ...] = ()


def sent(message: Any, to: type) -> Any:
    """A message of one release as the other one reads it: its class has the same name there."""
    got = to.__new__(to)
    got.__setstate__(pickle.loads(pickle.dumps(message.__getstate__())))
    return got


def test_what_the_older_release_does_not_know_has_its_default() -> None:
    assert sent(Older("a", alone=True), Newer) == Newer("a", None, alone=True, marks=())


def test_what_only_the_newer_release_knows_is_left_out() -> None:
    assert sent(Newer("a", "00-1", alone=True, marks=(1,)), Older) == Older("a", alone=True)


def test_a_field_without_a_default_is_named() -> None:
    with pytest.raises(TypeError, match=r"Older\.name"):
        Older.__new__(Older).__setstate__({"alone": True})  # type: ignore[attr-defined]


@pytest.mark.parametrize("message", MESSAGES)
def test_what_replicas_send_each_other_goes_by_names(message: type) -> None:
    state = message.__new__(message)
    for each in fields(message):  # type: ignore[arg-type]
        object.__setattr__(state, each.name, each.name)
    assert state.__getstate__() == {each.name: each.name for each in fields(state)}


def test_a_message_comes_as_it_was_sent() -> None:
    told = Conditioning({}, "digest", "a dog")
    for message in (
        RenderSpec("a", told, 7, 12, yields=True, transparent=True, alone=True),
        RenderUpdate("a", UpdateKind.PASS, 3),
        PromptText("a dog", negative="a cat"),
        Look(ScreenStage.FINAL, "pro"),
        Verdict(blocked=True, categories=("sexual",)),
    ):
        assert pickle.loads(pickle.dumps(message)) == message
