"""What comes back: every field of the answers and of the events, for generations and for edits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.clients import Answer, Client
from tests.conformance.row import Ask, Check, Does, Row, asked_once, expect, good

USAGE = {
    "usage.input_tokens": "words and punctuation of the prompt, and the cells of input pictures",
    "usage.input_tokens_details": "",
    "usage.input_tokens_details.image_tokens": "0 for generations",
    "usage.input_tokens_details.text_tokens": "words and punctuation: the gateway has no tokenizer",
    "usage.output_tokens": "cells of the token grid that were drawn",
    "usage.total_tokens": "the sum",
}


def answer_rows(where: str, ask: Ask) -> list[Row]:
    """Fields of ImagesResponse."""

    def row(name: str, note: str, check: Check, does: Does = Does.HONOURED) -> Row:
        return Row(where, "response", name, (), does, note, check)

    return [
        row("created", "when the job was accepted", _typed(ask, "created", int)),
        row("data", "one entry per picture that came to be", _sees(ask, _two, n=2)),
        row("data.b64_json", "", _typed(ask, "data.0.b64_json", str)),
        row(
            "data.url",
            "with `response_format: url`",
            _typed(ask, "data.0.url", str, response_format="url"),
        ),
        row(
            "data.revised_prompt",
            "what was drawn, from models that say it; else only where the prompt was put together "
            "from a picture's and a change",
            _sees(ask, lambda a: "revised_prompt" not in a.body["data"][0]),
        ),
        row("data.image_index", "ours: which of n", _typed(ask, "data.0.image_index", int)),
        row("data.seed", "ours: draws this picture again", _typed(ask, "data.0.seed", int)),
        row("background", "opaque", _typed(ask, "background", str)),
        row("output_format", "", _typed(ask, "output_format", str)),
        row("quality", "never `auto`: what was drawn", _typed(ask, "quality", str)),
        row("size", "never `auto`", _typed(ask, "size", str)),
        row(
            "safety_identifier",
            "the effective value; left out when there is none",
            _typed(ask, "safety_identifier", str, user="u1"),
        ),
        row(
            "svg_usage",
            "there is no svg",
            _sees(ask, lambda a: a.body.get("svg_usage") is None),
            Does.NEVER_SENT,
        ),
        row("usage", "", _sees(ask, lambda a: _adds_up(a.body["usage"]))),
        *(row(name, note, _counted(ask, name)) for name, note in USAGE.items()),
        row("usage.output_tokens_details", "", _counted(ask, "usage.output_tokens_details")),
        *(
            row(
                f"usage.output_tokens_details.{kind}",
                "",
                _counted(ask, f"usage.output_tokens_details.{kind}"),
            )
            for kind in ("image_tokens", "text_tokens")
        ),
    ]


def event_rows(where: str, prefix: str, ask: Ask) -> list[Row]:
    """Fields of the events of a stream. prefix: of their types."""
    described = {
        "type": "",
        "b64_json": "",
        "created_at": "when the job was accepted",
        "background": "opaque",
        "output_format": "as the picture's",
        "quality": "never `auto`",
        "size": "never `auto`",
        "image_index": "ours: which of n",
    }
    partial = {**described, "partial_image_index": "counts each image's own previews from 0"}
    completed = {
        **described,
        "usage": "of this image; the prompt counts with the first",
        **USAGE,
        "safety_identifier": "left out when there is none",
        "seed": "ours: draws this picture again",
    }
    rows = [
        Row(where, "event", f"{prefix}.{kind}.{name}", (), Does.HONOURED, note, check)
        for kind, fields in (("partial_image", partial), ("completed", completed))
        for name, note in fields.items()
        for check in [_in_event(ask, f"{prefix}.{kind}", name)]
    ]
    end = "no `[DONE]` line: the stream ends, which every SDK takes"
    done = Row(where, "event", "[DONE]", (), Does.NEVER_SENT, end, _streams_to_its_end(ask))
    return [*rows, done]


def at(body: Any, path: str) -> Any:
    """A field by its dotted path; a number is a place in a list. KeyError, IndexError."""
    for step in path.split("."):
        body = body[int(step)] if step.isdigit() else body[step]
    return body


def _sees(ask: Ask, test: Callable[[Answer], bool], **fields: Any) -> Check:
    """Of an answer that many rows look at."""

    def check(client: Client) -> None:
        expect(test(asked_once(client, ask, **fields)), True, f"the answer to {fields}")

    return check


def _typed(ask: Ask, path: str, kind: type, **fields: Any) -> Check:
    return _sees(ask, lambda a: isinstance(at(a.body, path), kind), **fields)


def _counted(ask: Ask, path: str) -> Check:
    return _sees(ask, lambda a: _is_count(at(a.body, path)))


def _is_count(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_count(one) for one in value.values())
    return isinstance(value, int) and value >= 0


def _two(answer: Answer) -> bool:
    return [one["image_index"] for one in answer.body["data"]] == [0, 1]


def _adds_up(usage: dict[str, Any]) -> bool:
    details = usage["input_tokens_details"]
    return bool(
        usage["input_tokens"] == details["image_tokens"] + details["text_tokens"]
        and usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        and usage["output_tokens"] > 0
    )


def _in_event(ask: Ask, kind: str, path: str) -> Check:
    def check(client: Client) -> None:
        events = asked_once(client, ask, stream=True, partial_images=1, user="u1").events
        event = next(one for one in events if one["type"] == kind)
        value = at(event, path)
        expect(value is not None and value != "auto", True, f"{path} of {kind}")
        if path == "usage":
            expect(_adds_up(value), True, f"{value} adds up")

    return check


def _streams_to_its_end(ask: Ask) -> Check:
    def check(client: Client) -> None:
        events = good(ask(client, stream=True)).events
        expect([one["type"].endswith(".completed") for one in events], [True], "events")

    return check
