"""The safety bench counts passes, bytes and verdicts as it says."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from engine.picture import encode
from engine.policy import DEFAULT_POLICY, Category, Scores
from scripts.bench_safety.counting import (
    Abort,
    abort_passes,
    digest,
    passes_saved,
    pictures_in,
    unscreened_bytes,
)
from scripts.bench_safety.looks import SAME_LINE, blocked, shown

ENDS = [10.0, 11.0, 12.0, 14.0, 16.0]
PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
FILE = encode(PICTURE, "png")
EVENT = b"data: %s\n\n" % json.dumps({"b64_json": base64.b64encode(FILE).decode()}).encode()


@pytest.mark.parametrize(
    ("abort", "beyond", "whole"),
    [
        (Abort(ready=10.0, looked=0.5, freed=11.0), 0.5, 1.0),
        (Abort(ready=10.0, looked=1.5, freed=12.0), 0.5, 2.0),
        (Abort(ready=10.0, looked=0.25, freed=14.0), 2.75, 3.0),  # not at the next boundary
        (Abort(ready=12.0, looked=0.5, freed=14.0), 0.75, 1.0),  # a slower pass is one all the same
    ],
)
def test_an_abort_is_counted_in_passes(abort: Abort, beyond: float, whole: float) -> None:
    assert abort_passes(ENDS, abort) == pytest.approx((beyond, whole))


def test_passes_are_saved_on_blocked_renders_alone() -> None:
    at_end = {1: 16, 2: 16, 3: 16}
    assert passes_saved({1: 6, 2: 16}, at_end) == pytest.approx(10 / 32)
    assert passes_saved({1: 16}, at_end) == 0


def test_a_picture_without_an_allowing_verdict_costs_its_bytes() -> None:
    assert unscreened_bytes([FILE, FILE], {digest(PICTURE)}) == 0
    assert unscreened_bytes([FILE, FILE], {digest(PICTURE[::-1])}) == 2 * len(FILE)
    one_pixel = PICTURE.copy()
    one_pixel[0, 0, 0] ^= 1
    assert unscreened_bytes([FILE, encode(one_pixel, "png")], {digest(PICTURE)}) > 0


@pytest.mark.parametrize(
    ("content_type", "body", "found"),
    [
        ("image/png", FILE, 1),
        ("application/json", EVENT[6:].strip(), 1),
        ("text/event-stream; charset=utf-8", EVENT * 3, 3),
        ("text/event-stream", EVENT + EVENT[:-20], 1),
        ("application/json", b'{"error": {"code": "moderation_blocked"}}', 0),
    ],
)
def test_every_whole_picture_of_an_answer_is_found(
    content_type: str, body: bytes, found: int
) -> None:
    assert pictures_in(content_type, body) == [FILE] * found


def test_each_look_is_judged_as_the_service_judges_it() -> None:
    unsure, calm = (Scores(((Category.WEAPONS, at),), "one") for at in (0.6, 0.1))
    found = blocked([(unsure, calm, calm), (calm, calm, unsure)], DEFAULT_POLICY)
    assert found.tolist() == [[False, False, False], [False, False, True]]
    assert blocked([(unsure, calm, calm)], SAME_LINE).tolist() == [[True, False, False]]


def test_a_preview_between_the_lines_is_shown_unless_an_earlier_one_stopped_the_render() -> None:
    presets = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 0]], np.bool_)
    same_line = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 0], [0, 0, 1]], np.bool_)
    assert shown(presets, same_line).tolist() == [True, False, True, False]
