"""What a scene leaves open is decided by the seed, and what it says is kept."""

from __future__ import annotations

import numpy as np
import pytest

from engine.arrange import arrange, layout_of
from engine.render import Checkpoint, Conditioning, RenderSpec, Source
from engine.scene import COLOURS, GRID, SMALL, SceneCodes

DOG, CLOCK = 0, 1
TURNS = (True, False)


def test_seeds_differ_in_look_and_side_and_agree_with_themselves() -> None:
    layouts = [arrange(SceneCodes(((DOG, -1, 1),)), seed, TURNS) for seed in range(40)]
    assert layouts == [arrange(SceneCodes(((DOG, -1, 1),)), seed, TURNS) for seed in range(40)]
    assert {layout.things[0].look for layout in layouts} == {0, 1, 2}
    assert {layout.things[0].flipped for layout in layouts} == {False, True}
    assert all(layout.things[0].large and layout.background == 0 for layout in layouts)


def test_what_has_letters_is_never_mirrored() -> None:
    layouts = [arrange(SceneCodes(((CLOCK, -1, 1),)), seed, TURNS) for seed in range(40)]
    assert not any(layout.things[0].flipped for layout in layouts)


def test_what_is_said_is_kept() -> None:
    scene = SceneCodes(((DOG, 3, 1),), background=5, look=2, place=(2, 0))
    for seed in range(9):
        layout = arrange(scene, seed, TURNS)
        (thing,) = layout.things
        assert (layout.background, thing.look, thing.colour) == (5, 2, 3)
        assert (thing.column, thing.row, thing.large) == (4, 0, False)


def test_a_white_thing_does_not_stand_before_white() -> None:
    layout = arrange(SceneCodes(((DOG, COLOURS.index("white"), 1),)), 1, TURNS)
    assert layout.background == COLOURS.index("grey")


@pytest.mark.parametrize(
    ("relation", "axis", "sign"),
    [("left", "column", -1), ("right", "column", 1), ("above", "row", -1), ("below", "row", 1)],
)
def test_two_things_stand_as_is_said(relation: str, axis: str, sign: int) -> None:
    scene = SceneCodes(((DOG, -1, 1), (CLOCK, -1, 1)), relation=relation)
    first, second = arrange(scene, 3, TURNS).things
    assert np.sign(getattr(first, axis) - getattr(second, axis)) == sign


@pytest.mark.parametrize(
    "things", [((DOG, -1, 2),), ((DOG, -1, 3),), ((DOG, -1, 2), (CLOCK, 1, 1))]
)
def test_several_things_do_not_overlap(things: tuple[tuple[int, int, int], ...]) -> None:
    for seed in range(12):
        covered = np.zeros((GRID, GRID), int)
        for thing in arrange(SceneCodes(things), seed, TURNS).things:
            covered[thing.row : thing.row + SMALL, thing.column : thing.column + SMALL] += 1
        assert covered.max() == 1
        assert covered.sum() == sum(count for _, _, count in things) * SMALL**2


def spec(scene: SceneCodes, **more: object) -> RenderSpec:
    conditioning = Conditioning.from_numpy("x", **scene.arrays())
    return RenderSpec("mine", conditioning, 7, 12, **more)  # type: ignore[arg-type]


def source(redraw: np.ndarray, seed: int, masked: bool) -> Source:  # type: ignore[type-arg]
    pixels = np.zeros((128, 128, 3), np.uint8)
    tokens = Checkpoint("masked:x", 12, seed, b"").to_bytes()
    mask = np.zeros((128, 128), np.uint8) if masked else None
    return Source(pixels, redraw.reshape(-1), tokens, mask, 0.5)


def test_a_part_that_is_drawn_anew_holds_the_new_thing() -> None:
    redraw = np.zeros((GRID, GRID), np.bool_)
    redraw[4:, 4:] = True
    layout = layout_of(spec(SceneCodes(((DOG, -1, 1),)), source=source(redraw, 1, True)), TURNS)
    (thing,) = layout.things
    assert (thing.column, thing.row, thing.large, layout.background) == (4, 4, False, -1)


def test_a_picture_that_is_changed_as_a_whole_stays_arranged_as_it_was() -> None:
    redraw, scene = np.ones((GRID, GRID), np.bool_), SceneCodes(((DOG, -1, 1),), background=4)
    for seed in range(9):
        before = arrange(scene, seed, TURNS)
        after = layout_of(spec(scene, source=source(redraw, seed, False)), TURNS)
        assert after == before


@pytest.mark.parametrize(("kept", "background"), [(0, COLOURS.index("white")), (1, -1)])
def test_a_background_stays_where_cells_of_it_do(kept: int, background: int) -> None:
    """Where all is drawn anew, nothing says which one it was."""
    redraw = np.arange(GRID * GRID) >= kept
    layout = layout_of(spec(SceneCodes(((DOG, -1, 1),)), source=source(redraw, 1, False)), TURNS)
    assert layout.background == background


def test_a_scene_survives_its_tensors() -> None:
    scene = SceneCodes(((3, -1, 2), (4, 5, 1)), 7, 2, "below", (0, 2), True)
    assert SceneCodes.of(scene.arrays()) == scene
    assert SceneCodes.of(SceneCodes(((0, -1, 1),)).arrays()) == SceneCodes(((0, -1, 1),))
