"""A request's source survives the ledger as it was."""

from __future__ import annotations

from dataclasses import replace

from jobs.db.rows import request_from_json, request_to_json
from jobs.request import SourceImage
from tests.stages.ledger_kit import wish


def test_a_source_comes_back_whole() -> None:
    source = SourceImage(
        canvas="inputs/a", small="inputs/b", redraw="00ff", tokens="AAAA", parent="img_x_0"
    )
    looked_at = SourceImage(redraw="00ff", images=2, references=("inputs/a", "inputs/b"))
    for one in (source, looked_at):
        request = replace(wish(), source=one, revised=True)
        assert request_from_json(request_to_json(request)) == request
        assert one.blobs == ("inputs/a", "inputs/b")
