"""Files that mean harm: each is a picture within its budget or refused with a reason, and the next
caller is served."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from itertools import takewhile

import pytest
from PIL import Image

from engine.intake import Budget, Intake, Refused
from tests.fuzz.hostile import Named, hostile_files, valid_files
from tests.fuzz.jpegs import progressive_bomb

MEMORY = 256 * 2**20
GOOD = dict(valid_files())["jpeg"]


@pytest.fixture(scope="module")
def intake() -> Iterator[Intake]:
    made = Intake(budget=Budget(memory_bytes=MEMORY, cpu_seconds=4))
    yield made
    made.close()


@pytest.fixture(scope="module")
def files() -> list[Named]:
    """All but the heavy ones at the end: those are for `make fuzz`."""
    return list(takewhile(lambda file: not file[0].startswith("heavy-"), hostile_files()))


def test_the_corpus_is_large_and_always_the_same(files: list[Named]) -> None:
    assert len({name for name, _ in files}) == len(files) >= 600
    assert files == list(takewhile(lambda file: not file[0].startswith("heavy-"), hostile_files()))


def test_each_is_a_picture_or_refused_and_costs_nobody_else(
    intake: Intake, files: list[Named]
) -> None:
    pids, outcomes, said = intake.pids(), dict[str, str](), dict[str, tuple[str, str]]()
    for name, data in files:
        try:
            normal = intake.normalise(data)
        except Refused as refused:
            said[name] = (refused.field, str(refused))
            outcomes[name] = refused.code
        else:
            picture = Image.open(BytesIO(normal.png), formats=["PNG"])
            picture.load()
            assert picture.size == (normal.width, normal.height), name
            assert picture.width * picture.height <= Budget().pixels, name
            assert picture.mode in ("RGB", "RGBA"), name
            assert picture.info == {}, name
            outcomes[name] = "a picture"
    assert {field for field, _ in said.values()} == {"image"}
    for name, (_, message) in said.items():
        assert message.startswith("the image "), name
        assert " at 0x" not in message, "no insides of a decoder"
    assert intake.pids() == pids, "no server was replaced"
    for name, outcome in outcomes.items():
        if name.startswith(("valid-", "polyglot-")):
            assert outcome == "a picture", name
        if name.startswith("other-"):
            assert outcome == ("broken_image" if name == "other-empty" else "unsupported_image"), (
                name
            )
    assert set(outcomes.values()) == {
        "a picture",
        "animated_image",
        "broken_image",
        "image_too_large",
        "unsupported_image",
    }


def test_what_travels_behind_a_picture_does_not_arrive(intake: Intake) -> None:
    for name, data in valid_files():
        png = intake.normalise(data + b"<script>alert(1)</script>").png
        assert b"script" not in png, name
        assert b"a place" not in png, name


def test_each_is_refused_as_a_mask_or_marks_something(intake: Intake, files: list[Named]) -> None:
    def place(mask: bytes) -> str:
        try:
            placed = intake.canvas(
                GOOD, mask=mask, markup=None, size=(32, 32), small_size=(8, 8), grid=(4, 4)
            )
        except Refused as refused:
            return refused.field
        return "marks something" if placed.redraw is not None and placed.redraw.any() else "nothing"

    assert {place(data) for _, data in files[::7]} == {"mask"}
    clear = BytesIO()
    Image.new("RGBA", (36, 48)).save(clear, "PNG")
    assert place(clear.getvalue() + b"<script>") == "marks something"


def test_a_picture_that_takes_too_long_is_given_up() -> None:
    intake = Intake(budget=Budget(cpu_seconds=1))
    try:
        pids = intake.pids()
        with pytest.raises(Refused, match="gave up"):
            intake.normalise(progressive_bomb(4096, 20_000))
        assert intake.normalise(GOOD).width == 36
        assert intake.pids() != pids
    finally:
        intake.close()


def test_a_picture_that_takes_too_much_memory_is_refused_and_its_child_lives() -> None:
    intake = Intake(budget=Budget(memory_bytes=80 * 2**20))
    file = BytesIO()
    Image.new("1", (4096, 4096)).save(file, "PNG")
    try:
        pids = intake.pids()
        with pytest.raises(Refused, match="too much memory"):
            intake.normalise(file.getvalue())
        assert intake.normalise(GOOD).width == 36
        assert intake.pids() == pids
    finally:
        intake.close()
