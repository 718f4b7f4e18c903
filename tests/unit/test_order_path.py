"""An order's way to its INSERT stays short."""

from __future__ import annotations

from scripts.shape.picture import order_to_insert

MOST_FRAMES = 12


def test_an_order_reaches_its_insert_in_few_frames() -> None:
    frames = order_to_insert()
    assert frames[0] == "serve_app/routes/images.py:generations"
    assert frames[-1] == "jobs/db/compiled.py:send"
    assert len(frames) <= MOST_FRAMES, "\n".join(frames)
