"""What the next heartbeat writes of a checkpoint, and which blobs can go."""

from __future__ import annotations

from dispatch.saved import ROW_BYTES, Saved, key_of
from jobs.job import Render, RenderState

LARGE = [bytes([number]) * (ROW_BYTES + 1) for number in range(4)]


def fresh() -> Saved:
    return Saved.of(Render(0, RenderState.WAITING))


def test_a_small_one_is_in_the_row_at_once() -> None:
    saved = fresh()
    saved.save(bytes(ROW_BYTES), 3)
    assert (saved.row, saved.row_passes, saved.unstored) == (bytes(ROW_BYTES), 3, False)
    assert saved.final_tokens == bytes(ROW_BYTES)


def test_a_large_one_is_in_the_row_once_it_is_stored() -> None:
    saved = fresh()
    saved.save(LARGE[0], 3)
    assert (saved.newest, saved.row, saved.row_passes, saved.unstored) == (LARGE[0], None, 0, True)
    saved.storing("k3")
    saved.stored("k3", LARGE[0], 3)
    assert (key_of(saved.row), saved.row_passes, saved.unstored) == ("k3", 3, False)
    assert saved.final_tokens is None


def test_one_that_is_stored_late_leaves_the_newest_to_be_stored() -> None:
    saved = fresh()
    saved.save(LARGE[0], 3)
    saved.storing("k3")
    saved.save(LARGE[1], 5)
    saved.stored("k3", LARGE[0], 3)
    assert (key_of(saved.row), saved.row_passes, saved.unstored) == ("k3", 3, True)
    saved.save(b"small", 6)
    saved.storing("k5")
    saved.stored("k5", LARGE[1], 5)
    assert (saved.row, saved.row_passes) == (b"small", 6), "never back to an older one"


def test_blobs_go_when_neither_the_row_nor_the_next_heartbeat_needs_them() -> None:
    saved = fresh()
    rows = []
    for number, key in enumerate(("k0", "k1", "k2")):
        saved.save(LARGE[number], number)
        saved.storing(key)
        saved.stored(key, LARGE[number], number)
        assert saved.row is not None
        rows.append(saved.row)
    assert saved.forget(rows[0]) == ["k1"], "what is recorded and what will be stay"
    assert saved.forget(rows[2]) == ["k0"]
    assert saved.forget(rows[2]) == []
    assert saved.forget_all() == ["k2"]


def test_one_that_is_being_written_does_not_go() -> None:
    saved = fresh()
    saved.save(LARGE[0], 3)
    saved.storing("k3")
    saved.stored("k3", LARGE[0], 3)
    saved.wrote()
    assert saved.row is not None
    saved.save(LARGE[1], 5)
    saved.storing("k5")
    assert saved.forget(saved.row) == []
    saved.wrote()
    assert saved.forget(saved.row) == ["k5"], "it could not be written, as far as we know"


def test_the_next_holder_deletes_what_it_went_on_from() -> None:
    first = fresh()
    first.save(LARGE[0], 3)
    first.stored("k3", LARGE[0], 3)
    row = Render(0, RenderState.WAITING, pass_no=5, checkpoint=first.row, checkpoint_pass=3)
    saved = Saved.of(row)
    assert (saved.newest, saved.passes) == (None, 3)
    saved.loaded(LARGE[0])
    saved.save(b"small", 4)
    assert saved.forget(b"small") == ["k3"]


def test_one_that_is_gone_begins_again() -> None:
    saved = Saved(None, 3, b"blob:k3", 3, frozenset({"k3"}))
    saved.loaded(None)
    assert (saved.newest, saved.passes, saved.row, saved.row_passes) == (None, 0, None, 0)
