"""Content provenance checks: OpenAI's object, with a watermark in the place of SynthID."""

from __future__ import annotations

from tests.conformance.clients import Answer, Client, Upload
from tests.conformance.file_rows import flat
from tests.conformance.row import Ask, Check, Does, Row, expect, good, honours, refuses

CHECK = Ask("content_provenance_checks.create", {"file": flat()})
CLIENTS = ("python", "http")


def _formats(client: Client) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        found = good(CHECK(client, file=flat(kind))).body["results"]
        expect([one["outcome"] for one in found], ["not_detected"] * 2, kind)


def _answers(name: str, wanted: object) -> Check:
    return honours(CHECK, lambda answer: bool(answer.body[name] == wanted))


def _says(name: str, wanted: object) -> Check:
    def test(answer: Answer) -> bool:
        return bool(answer.body["results"][0].get(name) == wanted)

    return honours(CHECK, test)


def _row(kind: str, name: str, values: tuple[str, ...], does: Does, note: str, check: Check) -> Row:
    return Row("provenance", kind, name, values, does, note, check, CLIENTS)


HONOURED, REFUSED = Does.HONOURED, Does.REFUSED
PROVENANCE = [
    _row("parameter", "file", ("png", "jpeg", "webp"), HONOURED, "", _formats),
    _row(
        "parameter",
        "file",
        ("gif", "audio", "anything else"),
        REFUSED,
        "400 with what is wrong",
        refuses(
            CHECK,
            "",
            {"file": Upload("a.gif", b"GIF89a", "image/gif")},
            {"file": Upload("a.mp3", b"ID3 no picture", "audio/mpeg")},
        ),
    ),
    _row("response", "object", (), HONOURED, "", _answers("object", "content_provenance_check")),
    _row(
        "response",
        "created_at",
        (),
        HONOURED,
        "",
        honours(CHECK, lambda answer: isinstance(answer.body["created_at"], int)),
    ),
    _row(
        "response",
        "results",
        (),
        HONOURED,
        "`c2pa`, and `watermark` in the place of `synthid`, which is another maker's",
        honours(
            CHECK,
            lambda answer: [one["type"] for one in answer.body["results"]] == ["c2pa", "watermark"],
        ),
    ),
    _row("response", "results.outcome", (), HONOURED, "", _says("outcome", "not_detected")),
    _row("response", "results.type", (), HONOURED, "", _says("type", "c2pa")),
    _row(
        "response",
        "results.validation_state",
        (),
        HONOURED,
        "trusted: by the operator's anchors",
        _says("validation_state", "not_present"),
    ),
    *(
        _row("response", f"results.{name}", (), HONOURED, "what a manifest says", _says(name, None))
        for name in ("issuer", "model", "generated_at")
    ),
]
