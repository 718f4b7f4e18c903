"""Parameters, answers and events that generations and edits have in common: a row each for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from tests.conformance.clients import Answer, Client
from tests.conformance.row import (
    Ask,
    Check,
    Does,
    Row,
    both,
    changes_nothing,
    expect,
    good,
    honours,
    honours_each,
    opened,
    pictures,
    refuses,
)

SIZES = ("1024x1024", "1536x1024", "1024x1536", "256x256", "512x512")
WIDE_SIZES = ("1792x1024", "1024x1792")
ODD_SIZES = ({"size": "100x100"}, {"size": "16x64"}, {"size": "4096x4096"}, {"size": "big"})
SMALL = "64x64"
STILL = "pictures here are still"


HONOURED, REFUSED, NO_EFFECT = Does.HONOURED, Does.REFUSED, Does.NO_EFFECT
QUALITIES = ("low", "medium", "high", "xhigh", "max")
NewRow = Callable[[str, tuple[str, ...], Does, str, Check], Row]
"""A row about a parameter: name, values, does, note, check."""


def parameter_rows(where: str, ask: Ask) -> list[Row]:
    """What both endpoints take. `ask`: a good request for one small picture with a seed."""

    def row(name: str, values: tuple[str, ...], does: Does, note: str, check: Check) -> Row:
        return Row(where, "parameter", name, values, does, note, check)

    groups = (_order_rows, _look_rows, _file_rows, _stream_rows, _unoffered_rows, _client_rows)
    return [made for rows in groups for made in rows(row, ask)]


def _order_rows(row: NewRow, ask: Ask) -> list[Row]:
    """What is drawn, by which model, and how many."""
    return [
        row("prompt", ("text",), HONOURED, "up to 32,000 characters", honours(ask, pictures)),
        row(
            "prompt",
            ("missing", "empty", "too long"),
            REFUSED,
            "400",
            refuses(ask, "prompt", {"prompt": ""}, {"prompt": " "}, {"prompt": "x" * 32_001}),
        ),
        row(
            "negative_prompt",
            ("text",),
            REFUSED,
            "400: ours; neither family can be told what not to draw; asked of the family, not of a "
            "list. Empty is none",
            both(
                refuses(ask, "what not to draw", {"negative_prompt": "snow"}),
                honours(ask, pictures, negative_prompt=""),
            ),
        ),
        row(
            "model",
            ("ours", "an alias"),
            HONOURED,
            "`GET /v1/models` names it; `model.aliases` of the config are other names for it",
            _own_model(ask),
        ),
        row(
            "model",
            ("another",),
            REFUSED,
            "404 `model_not_found`, which says ours",
            _other_models(ask),
        ),
        row(
            "n",
            ("1..10",),
            HONOURED,
            "image i is drawn with seed + i",
            honours_each(ask, "n", (1, 3, 10), lambda a, n: len(set(pictures(a))) == n),
        ),
        row("n", ("0", "11"), REFUSED, "400", refuses(ask, "n", {"n": 0}, {"n": 11})),
    ]


def _look_rows(row: NewRow, ask: Ask) -> list[Row]:
    """How large and how well drawn it is."""
    return [
        row(
            "size",
            ("WIDTHxHEIGHT", *SIZES),
            HONOURED,
            "both divisible by 16, 1:3 to 3:1, up to 3840x2160; drawn at the model's own size and "
            "scaled",
            honours_each(ask, "size", (*SIZES, "48x16", "1536x864"), has_size),
        ),
        row(
            "size",
            ("auto",),
            HONOURED,
            "the size that the operator set, or the picture's; the answer says which",
            honours(ask, lambda a: has_size(a, a.body["size"]), size="auto"),
        ),
        row("size", ("others",), REFUSED, "400 with the rule", refuses(ask, "size", *ODD_SIZES)),
        row(
            "quality",
            QUALITIES,
            HONOURED,
            "the number of passes",
            honours_each(ask, "quality", QUALITIES, lambda a, q: a.body["quality"] == q),
        ),
        row(
            "quality",
            ("auto", "standard"),
            HONOURED,
            "medium",
            honours_each(
                ask, "quality", ("auto", "standard"), lambda a, _: a.body["quality"] == "medium"
            ),
        ),
        row(
            "background",
            ("opaque", "auto"),
            HONOURED,
            "auto is opaque",
            honours_each(
                ask, "background", ("opaque", "auto"), lambda a, _: a.body["background"] == "opaque"
            ),
        ),
        row(
            "background",
            ("transparent",),
            REFUSED,
            "400 from models that draw no alpha; the embedded model does, in png and webp",
            refuses(ask, "no alpha", {"background": "transparent"}),
        ),
    ]


def _file_rows(row: NewRow, ask: Ask) -> list[Row]:
    """The files that it ends as."""
    return [
        row(
            "output_format",
            ("png", "webp", "jpeg"),
            HONOURED,
            "",
            honours_each(ask, "output_format", ("png", "webp", "jpeg"), _has_format),
        ),
        row(
            "output_format",
            ("gif", "svg"),
            REFUSED,
            "400: still pictures of pixels only",
            refuses(
                ask, "'png', 'webp' or 'jpeg'", {"output_format": "gif"}, {"output_format": "svg"}
            ),
        ),
        row("output_compression", ("0..100",), HONOURED, "webp and jpeg", _compresses(ask)),
        row(
            "output_compression",
            ("with png", "101"),
            REFUSED,
            "400: png has none, 100 is let pass",
            refuses(
                ask,
                "output_compression",
                {"output_compression": 50},
                {"output_compression": 101, "output_format": "webp"},
            ),
        ),
        row(
            "response_format",
            ("b64_json", "url"),
            HONOURED,
            "url opens without a key for an hour",
            both(
                honours(ask, pictures, response_format="b64_json"),
                honours(ask, _opens, response_format="url"),
            ),
        ),
        row(
            "response_format",
            ("url in a stream",),
            REFUSED,
            "400: streams are b64_json",
            refuses(ask, "b64_json", {"response_format": "url", "stream": True}),
        ),
    ]


def _stream_rows(row: NewRow, ask: Ask) -> list[Row]:
    """What comes while it is drawn."""
    return [
        row("stream", ("true", "false"), HONOURED, "server-sent events", _streams(ask)),
        row(
            "partial_images",
            ("0..3",),
            HONOURED,
            "previews, `image_index` (ours) says of which image",
            _previews(ask),
        ),
        row(
            "partial_images",
            ("4", "without stream"),
            REFUSED,
            "400",
            refuses(
                ask,
                "partial_images",
                {"partial_images": 4, "stream": True},
                {"partial_images": 2},
            ),
        ),
    ]


def _unoffered_rows(row: NewRow, ask: Ask) -> list[Row]:
    """What no model here can do."""
    return [
        row(
            "complexity",
            ("low", "medium", "high"),
            NO_EFFECT,
            "there is no planning to spend on",
            changes_nothing(ask, *({"complexity": v} for v in ("low", "medium", "high"))),
        ),
        row(
            "frame_count",
            ("2..16",),
            REFUSED,
            "400: no gif",
            refuses(ask, STILL, {"frame_count": 9}),
        ),
        row(
            "frame_duration_ms",
            ("milliseconds",),
            REFUSED,
            "400: no gif",
            refuses(ask, STILL, {"frame_duration_ms": 200}),
        ),
        row(
            "svg",
            ("{model, reasoning}",),
            REFUSED,
            "400: no svg",
            refuses(ask, STILL, {"svg": {"model": "gpt-5", "reasoning": {"effort": "low"}}}),
        ),
    ]


def _client_rows(row: NewRow, ask: Ask) -> list[Row]:
    """What clients say about themselves, and of ours."""
    return [
        row(
            "safety_identifier",
            ("text",),
            HONOURED,
            "reported back; empty or null leaves the word to `user`",
            both(
                honours(ask, _is_for("s1"), safety_identifier="s1", user="u1"),
                honours(ask, _is_for("u1"), safety_identifier="", user="u1"),
            ),
        ),
        row("user", ("text",), HONOURED, "reported back", honours(ask, _is_for("u1"), user="u1")),
        row(
            "seed",
            ("0..2^63-1",),
            HONOURED,
            "ours: the same seed is the same picture",
            _seeds(ask),
        ),
        row(
            "anything else",
            ("unknown",),
            REFUSED,
            "400 `unknown_parameter`: nothing is ignored without a word",
            refuses(ask, "Unknown parameter", {"promtp": "x"}),
        ),
    ]


def has_size(answer: Answer, size: str) -> bool:
    """The picture and the answer have that size."""
    width, height = opened(pictures(answer)[0]).size
    return f"{width}x{height}" == size and answer.body["size"] == size


def _has_format(answer: Answer, name: str) -> bool:
    found = (opened(pictures(answer)[0]).format or "").lower()
    return found == name and bool(answer.body["output_format"] == name)


def _is_for(who: str) -> Any:
    return lambda answer: answer.body["safety_identifier"] == who


def _opens(answer: Answer) -> bool:
    got = httpx.get(answer.body["data"][0]["url"], trust_env=False)
    return got.status_code == 200 and opened(got.content).format == "PNG"


def _own_model(ask: Ask) -> Check:
    def check(client: Client) -> None:
        name = good(client.call("models.list")).body["data"][0]["id"]
        for one in (name, "gpt-image-2"):  # the second is an alias
            good(ask(client, model=one))

    return check


def _other_models(ask: Ask) -> Check:
    def check(client: Client) -> None:
        for name in ("dall-e-3", "gpt-image-1", "gpt-image-2.6-sunburst"):
            answer = ask(client, model=name)
            error = answer.error or {}
            found = (answer.status, error.get("code"), error.get("param"))
            expect(found, (404, "model_not_found", "model"), name)

    return check


def _compresses(ask: Ask) -> Check:
    def check(client: Client) -> None:
        for name in ("webp", "jpeg"):
            answers = [
                ask(client, output_format=name, output_compression=share, size="256x256")
                for share in (0, 100)
            ]
            small, large = (len(pictures(answer)[0]) for answer in answers)
            expect(small < large, True, f"{name} at 0 is smaller than at 100")

    return check


def _streams(ask: Ask) -> Check:
    def check(client: Client) -> None:
        (event,) = good(ask(client, stream=True)).events
        expect(event["type"].endswith(".completed"), True, event["type"])
        expect(good(ask(client, stream=False)).events, (), "events without a stream")

    return check


def _previews(ask: Ask) -> Check:
    def check(client: Client) -> None:
        for count in (0, 1, 2, 3):
            *partials, last = good(ask(client, stream=True, partial_images=count)).events
            numbers = [partial["partial_image_index"] for partial in partials]
            wanted = sorted(set(numbers) & set(range(count)))  # one that is late is left out
            expect(numbers, wanted, f"previews of {count}")
            expect(bool(numbers), bool(count), f"some previews of {count}")
            expect(last["type"].endswith(".completed"), True, last["type"])
        two = good(ask(client, stream=True, partial_images=1, n=2)).events
        seen = {(event["type"].split(".")[1], event["image_index"]) for event in two}
        both_of_both = {(kind, i) for kind in ("completed", "partial_image") for i in (0, 1)}
        expect(seen, both_of_both, "events of two images")

    return check


def _seeds(ask: Ask) -> Check:
    def check(client: Client) -> None:
        first, again, other = (pictures(ask(client, seed=seed)) for seed in (1, 1, 2))
        expect(first == again, True, "the same seed, the same picture")
        expect(first != other, True, "another seed, another picture")
        refuses(ask, "seed", {"seed": -1})(client)

    return check
