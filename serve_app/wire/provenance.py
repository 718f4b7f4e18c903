"""OpenAI's content provenance check as JSON. Pure."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from engine.provenance.checks import Checked
from engine.provenance.manifest import ManifestFound, State
from engine.provenance.watermark import FoundMark
from serve_app.wire.fields import Seconds

Outcome = Literal["detected", "not_detected"]


class ManifestBody(TypedDict):
    """What the file's C2PA manifest says."""

    type: Literal["c2pa"]
    outcome: Outcome
    validation_state: State
    issuer: str | None
    model: str | None
    generated_at: str | None
    source_type: str | None
    ancestors: int
    problems: list[str]


class WatermarkBody(TypedDict):
    """What the picture's watermark says."""

    type: Literal["watermark"]
    outcome: Outcome
    key_id: str | None
    scale: float | None
    score: float | None


class ProvenanceCheckBody(TypedDict):
    """The check."""

    object: Literal["content_provenance_check"]
    created_at: Seconds
    results: list[ManifestBody | WatermarkBody]


def check_body(checked: Checked, now: float) -> ProvenanceCheckBody:
    """OpenAI's object. Its second layer is SynthID, another maker's: ours has a type of its own.
    now: epoch seconds."""
    return {
        "object": "content_provenance_check",
        "created_at": int(now),
        "results": [_manifest(checked.manifest), _watermark(checked.mark)],
    }


def _manifest(found: ManifestFound) -> ManifestBody:
    return {
        "type": "c2pa",
        "outcome": _outcome(found.state in ("trusted", "valid")),
        "validation_state": found.state,
        "issuer": found.issuer,
        "model": found.model,
        "generated_at": found.generated_at,
        "source_type": found.source_type,
        "ancestors": found.ancestors,
        "problems": list(found.problems),
    }


def _watermark(found: FoundMark | None) -> WatermarkBody:
    return {
        "type": "watermark",
        "outcome": _outcome(found is not None),
        "key_id": None if found is None else found.key_id,
        "scale": None if found is None else round(found.scale, 3),
        "score": None if found is None else round(found.score, 1),
    }


def _outcome(found: bool) -> Outcome:
    return "detected" if found else "not_detected"
