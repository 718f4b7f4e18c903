"""The table: every row, in the order of the page."""

from __future__ import annotations

from tests.conformance.answer_rows import answer_rows, event_rows
from tests.conformance.batch_rows import BATCHES
from tests.conformance.clients import Answer
from tests.conformance.edit_rows import EDITS, TWEAKS
from tests.conformance.file_rows import FILES
from tests.conformance.litellm import LITELLM
from tests.conformance.other_rows import ENDPOINTS, ERRORS, HEADERS, MODELS, VARIATIONS
from tests.conformance.picture_rows import WIDE_SIZES, has_size, parameter_rows
from tests.conformance.provenance_rows import PROVENANCE
from tests.conformance.response_rows import RESPONSES
from tests.conformance.row import (
    Ask,
    Check,
    Does,
    Row,
    both,
    changes_nothing,
    honours,
    honours_each,
    pictures,
    refuses,
)
from tests.conformance.webhook_rows import WEBHOOKS

GENERATE = Ask(
    "images.generate", {"prompt": "a red fox", "size": "64x64", "quality": "low", "seed": 7}
)
OPTIONAL = (
    *("background", "complexity", "frame_count", "frame_duration_ms", "model", "moderation", "n"),
    *("output_compression", "output_format", "partial_images", "response_format", "stream"),
    *("safety_identifier", "style", "svg", "user"),
)


def _generations(name: str, values: tuple[str, ...], does: Does, note: str, check: Check) -> Row:
    return Row("generations", "parameter", name, values, does, note, check)


def _quality_hd(answer: Answer) -> bool:
    return bool(answer.body["quality"] == "high")


GENERATIONS = [
    *parameter_rows("generations", GENERATE),
    _generations(
        "prompt",
        ("32,000 characters",),
        Does.HONOURED,
        "",
        honours(GENERATE, pictures, prompt="fox " * 8000),
    ),
    _generations(
        "loras",
        ("names and weights",),
        Does.REFUSED,
        "400: ours; neither of these models has any; asked of the model, not of a list. An empty "
        "list is none",
        both(
            refuses(GENERATE, "no LoRAs", {"loras": [{"name": "ink", "weight": 0.5}]}),
            honours(GENERATE, pictures, loras=[]),
        ),
    ),
    _generations(
        "size",
        WIDE_SIZES,
        Does.HONOURED,
        "sizes of older models, too",
        honours_each(GENERATE, "size", WIDE_SIZES, has_size),
    ),
    _generations(
        "quality", ("hd",), Does.HONOURED, "high", honours(GENERATE, _quality_hd, quality="hd")
    ),
    _generations(
        "moderation",
        ("auto", "low"),
        Does.HONOURED,
        "low looks at pictures less strictly; prompts are screened the same",
        honours_each(GENERATE, "moderation", ("auto", "low"), lambda a, _: bool(pictures(a))),
    ),
    _generations(
        "style",
        ("vivid", "natural"),
        Does.NO_EFFECT,
        "a hint that no model here takes",
        changes_nothing(GENERATE, {"style": "vivid"}, {"style": "natural"}),
    ),
    _generations(
        "image, images, mask, markup, input_fidelity",
        (),
        Does.REFUSED,
        "400: they belong to edits",
        refuses(
            GENERATE,
            "it belongs to POST /v1/images/edits",
            *({name: "x"} for name in ("image", "images", "mask", "markup", "input_fidelity")),
        ),
    ),
    _generations(
        "every optional one",
        ("null",),
        Does.HONOURED,
        "means the default, as if it were left out",
        changes_nothing(GENERATE, dict.fromkeys(OPTIONAL)),
    ),
    *answer_rows("generations", GENERATE),
    *event_rows("generations", "image_generation", GENERATE),
]

ROWS: tuple[Row, ...] = (
    *GENERATIONS,
    *EDITS,
    *TWEAKS,
    *RESPONSES,
    *VARIATIONS,
    *FILES,
    *BATCHES,
    *PROVENANCE,
    *WEBHOOKS,
    *MODELS,
    *ERRORS,
    *HEADERS,
    *ENDPOINTS,
    *LITELLM,
)
