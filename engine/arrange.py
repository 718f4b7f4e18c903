"""Decides what a scene leaves open: a scene and a seed become a layout. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.render import Checkpoint, Conditioning, RenderSpec
from engine.scene import GRID, LOOKS, SMALL, PictureLayout, PlacedThing, SceneCodes
from engine.scene_words import ABOVE, BELOW, LEFT, RIGHT

ARRANGE_KEY = 0x5CE9E
"""Beside the seed, so that these choices share no numbers with the passes."""
LOOK_SHARES = (0.6, 0.2, 0.2)
_FAR = GRID - SMALL
_MIDDLE = _FAR // 2
Spots = tuple[tuple[int, int], ...]
PAIRS: dict[str, Spots] = {
    LEFT: ((0, _MIDDLE), (_FAR, _MIDDLE)),
    RIGHT: ((_FAR, _MIDDLE), (0, _MIDDLE)),
    ABOVE: ((_MIDDLE, 0), (_MIDDLE, _FAR)),
    BELOW: ((_MIDDLE, _FAR), (_MIDDLE, 0)),
}
OTHER_PAIRS: tuple[Spots, ...] = (PAIRS[LEFT], ((0, 0), (_FAR, _FAR)), ((_FAR, 0), (0, _FAR)))
TRIPLES: tuple[Spots, ...] = (
    ((_MIDDLE, 0), (0, _FAR), (_FAR, _FAR)),
    ((0, 0), (_FAR, 0), (_MIDDLE, _FAR)),
)
"""(column, row) of the left upper cells of two and three things; what the training drew."""


def scene_of(said: Conditioning) -> SceneCodes:
    """What a prompt asks for. LookupError or ValueError when that is not what SceneCodes packs."""
    return SceneCodes.of({name: said.numpy(name) for name in ("things", "scene")})


def layout_of(spec: RenderSpec, turns: Sequence[bool]) -> PictureLayout:
    """Of a render. A picture that is changed as a whole stays arranged as it was, where it was
    drawn here: its own seed says how."""
    scene, source = scene_of(spec.conditioning), spec.source
    if source is None:
        return arrange(scene, spec.seed, turns)
    if source.mask is not None:
        return arrange(scene, spec.seed, turns, source.redraw)
    seed = spec.seed if source.tokens is None else _seed_of(source.tokens, spec.seed)
    kept = arrange(scene, seed, turns)
    if scene.background >= 0 or source.redraw.all():
        return kept
    return replace(kept, background=-1)


def _seed_of(tokens: bytes, otherwise: int) -> int:
    try:
        return Checkpoint.from_bytes(tokens).seed
    except ValueError:
        return otherwise


def arrange(
    scene: SceneCodes, seed: int, turns: Sequence[bool], redraw: NDArray[np.bool_] | None = None
) -> PictureLayout:
    """turns: whether each concept may be mirrored. redraw: bool [cells], where an edit draws; a
    single thing that it has no room for is drawn small, where most of it is drawn anew."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, ARRANGE_KEY], np.uint64)))
    drawn_look, turned = random.choice(len(LOOKS), p=LOOK_SHARES), random.random(3) < 0.5
    pair, triple = int(random.integers(len(OTHER_PAIRS))), int(random.integers(len(TRIPLES)))
    look = int(drawn_look) if scene.look < 0 else scene.look
    things = [
        PlacedThing(concept, look, colour, bool(turned[at] and turns[concept]))
        for at, (concept, colour, count) in enumerate(scene.things)
        for _ in range(count)
    ]
    background = _background(scene, things, redraw)
    if len(things) == 1:
        spot = _spot(scene, redraw)
        return PictureLayout((things[0] if spot is None else _at(things[0], spot),), background)
    pairs = PAIRS.get(scene.relation, OTHER_PAIRS[pair])
    spots = pairs if len(things) == 2 else TRIPLES[triple]
    return PictureLayout(tuple(map(_at, things, spots)), background)


def _at(thing: PlacedThing, spot: tuple[int, int]) -> PlacedThing:
    return replace(thing, large=False, column=spot[0], row=spot[1])


def _background(
    scene: SceneCodes, things: Sequence[PlacedThing], redraw: NDArray[np.bool_] | None
) -> int:
    """What is said, else that of the picture that is changed in part, else white, or grey where a
    thing is white."""
    if scene.background >= 0:
        return scene.background
    if redraw is not None and not redraw.all():
        return -1
    return 2 if any(thing.colour == 0 for thing in things) else 0


def _spot(scene: SceneCodes, redraw: NDArray[np.bool_] | None) -> tuple[int, int] | None:
    """Where a single thing stands; None for one that takes the whole picture."""
    if scene.place is not None:
        column, row = scene.place
        return column * _MIDDLE, row * _MIDDLE
    if redraw is not None and not redraw.all():
        return _roomiest(redraw.reshape(GRID, GRID))
    return (_MIDDLE, _MIDDLE) if scene.small else None


def _roomiest(redraw: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The spot with most cells to be drawn, the nearest to their middle; None where they are most
    of the picture."""
    if redraw.sum() > 0.6 * redraw.size or not redraw.any():
        return None
    rows, columns = np.nonzero(redraw)
    middle = columns.mean() - (SMALL - 1) / 2, rows.mean() - (SMALL - 1) / 2
    spots = [(column, row) for row in range(_FAR + 1) for column in range(_FAR + 1)]
    return max(
        spots,
        key=lambda s: (
            redraw[s[1] : s[1] + SMALL, s[0] : s[0] + SMALL].sum(),
            -abs(s[0] - middle[0]) - abs(s[1] - middle[1]),
        ),
    )
