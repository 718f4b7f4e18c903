"""Edits, as a form and as JSON, and what is ours beside them: tweaks and lineage."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image, ImageChops

from tests.conformance.answer_rows import answer_rows, event_rows
from tests.conformance.clients import Answer, Client, Upload
from tests.conformance.file_rows import flat, kept
from tests.conformance.picture_rows import parameter_rows
from tests.conformance.row import (
    ALL,
    Ask,
    Check,
    Does,
    Row,
    both,
    expect,
    good,
    honours,
    honours_each,
    opened,
    pictures,
    refuses,
)

SIZE = (64, 64)
LOOK: dict[str, Any] = {"prompt": "a red fox", "size": "64x64", "quality": "low", "seed": 7}
EDIT = Ask("images.edit", {**LOOK, "image": flat()})
JSON = Ask("images.edit", LOOK)
HTTP = ("http",)


def hole(size: tuple[int, int] = SIZE) -> Upload:
    """A mask whose left half is to be drawn again."""
    mask = Image.new("RGBA", size, "black")
    mask.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    return _png("mask.png", mask)


def scribble(size: tuple[int, int] = SIZE) -> Upload:
    """A transparent picture with a red stroke."""
    markup = Image.new("RGBA", size, (0, 0, 0, 0))
    markup.paste((255, 0, 0, 255), (8, 8, 56, 24))
    return _png("markup.png", markup)


def _png(name: str, image: Image.Image) -> Upload:
    out = io.BytesIO()
    image.save(out, "PNG")
    return Upload(name, out.getvalue())


def _data_url(upload: Upload) -> str:
    return f"data:{upload.media_type};base64,{base64.b64encode(upload.data).decode()}"


# Checks


def keeps_the_right_half(answer: Answer) -> bool:
    """Nothing outside the mask has changed, to the last bit, and something in it has."""
    before, after = opened(flat().data).convert("RGB"), opened(pictures(answer)[0]).convert("RGB")
    changed = ImageChops.difference(before, after).getbbox()
    return changed is not None and changed[2] <= SIZE[0] // 2


def _output_tokens(client: Client, **fields: Any) -> int:
    return int(good(EDIT(client, **fields)).body["usage"]["output_tokens"])


def _fidelity(client: Client) -> None:
    low, high = (_output_tokens(client, input_fidelity=one) for one in ("low", "high"))
    expect(high < low, True, f"high draws less again ({high}) than low ({low})")


def _charges_what_it_draws(client: Client) -> None:
    masked, whole = _output_tokens(client, mask=hole()), _output_tokens(client, strength=1.0)
    expect(masked < whole, True, f"tokens of a half ({masked}) and of the whole ({whole})")
    usage = good(EDIT(client)).body["usage"]
    expect(usage["input_tokens_details"]["image_tokens"] > 0, True, f"input pictures in {usage}")


def _strength(client: Client) -> None:
    little, much = (_output_tokens(client, strength=share) for share in (0.2, 0.9))
    expect(little < much, True, f"tokens of 0.2 ({little}) and of 0.9 ({much})")


def _names_a_file(client: Client) -> None:
    with kept(client, file=flat()) as file, kept(client, file=hole()) as mask:
        ids: dict[str, Any] = {"images": [{"file_id": file["id"]}], "mask": {"file_id": mask["id"]}}
        expect(keeps_the_right_half(JSON(client, **ids)), True, "the half that is kept")


def _goes_on_from_an_output(client: Client) -> None:
    first = good(client.call("images.generate", **LOOK)).body["data"][0]["id"]
    good(JSON(client, images=[{"file_id": first}]))


def _takes_a_data_url(client: Client) -> None:
    asked = {"images": [{"image_url": _data_url(flat())}], "mask": {"image_url": _data_url(hole())}}
    expect(keeps_the_right_half(JSON(client, **asked)), True, "the half that is kept")


def _markup_by_url(client: Client) -> None:
    asked = {"image_url": _data_url(scribble())}
    good(JSON(client, images=[{"image_url": _data_url(flat())}], markup=asked))


# Rows

HONOURED, REFUSED, NO_EFFECT = Does.HONOURED, Does.REFUSED, Does.NO_EFFECT


def _row(
    name: str,
    values: tuple[str, ...],
    does: Does,
    note: str,
    check: Check,
    clients: tuple[str, ...] = ALL,
    lane: str = "paced",
) -> Row:
    return Row("edits", "parameter", name, values, does, note, check, clients, lane)


FORM_ROWS = [
    *parameter_rows("edits", EDIT),
    _row(
        "image",
        ("png", "jpeg", "webp"),
        HONOURED,
        "up to `limits.image_bytes` (20 MiB); one of another shape is cropped at its centre",
        honours_each(EDIT, "image", (flat(), flat("JPEG"), flat("WEBP")), lambda a, _: pictures(a)),
    ),
    _row("image", ("list of one",), HONOURED, "", honours(EDIT, pictures, image=[flat()])),
    _row(
        "image",
        ("2..16",),
        REFUSED,
        "400: these models take one picture, FLUX.2 up to 16; `GET /v1/models/{id}` says how many",
        refuses(EDIT, "at most 1", {"image": [flat(), flat()]}),
    ),
    _row(
        "image",
        ("gif, broken, not a picture",),
        REFUSED,
        "400 with what is wrong",
        refuses(
            EDIT,
            "",
            {"image": flat("GIF")},
            {"image": Upload("a.png", flat().data[:60])},
            {"image": Upload("a.png", b"hello")},
        ),
    ),
    _row(
        "mask",
        ("alpha 0 = draw again",),
        HONOURED,
        "outside of it the picture is the same to the last bit; only its cells cost",
        both(honours(EDIT, keeps_the_right_half, mask=hole()), _charges_what_it_draws),
    ),
    _row(
        "mask",
        ("by the embedded model",),
        HONOURED,
        "",
        honours(EDIT, keeps_the_right_half, mask=hole()),
        lane="embedded",
    ),
    _row(
        "mask",
        ("of another size",),
        REFUSED,
        "400 with both sizes",
        refuses(EDIT, "32", {"mask": hole((32, 32))}),
    ),
    _row(
        "markup",
        ("transparent png",),
        HONOURED,
        "laid on the picture",
        honours(EDIT, pictures, markup=scribble()),
    ),
    _row(
        "markup",
        ("with a mask",),
        REFUSED,
        "400",
        refuses(EDIT, "mask", {"markup": scribble(), "mask": hole()}),
    ),
    _row(
        "loras",
        ("names and weights",),
        REFUSED,
        "400: ours; neither of these models has any. In a form it is JSON in a text",
        both(
            refuses(EDIT, "no LoRAs", {"loras": '[{"name": "ink", "weight": 0.5}]'}),
            honours(EDIT, pictures, loras="[]"),
        ),
    ),
    _row(
        "input_fidelity",
        ("low", "high"),
        HONOURED,
        "without a mask: high draws 50 % of the cells again, low 80 %",
        _fidelity,
    ),
    _row(
        "strength",
        ("0..1",),
        HONOURED,
        "ours: the share of cells that is drawn again; of diffusion models theirs",
        _strength,
    ),
    _row(
        "moderation",
        ("auto", "low"),
        HONOURED,
        "the SDKs do not list it here; OpenAI's JSON form does",
        honours_each(EDIT, "moderation", ("auto", "low"), lambda a, _: pictures(a)),
    ),
]
JSON_ROWS = [
    _row("images[].image_url", ("data: URL",), HONOURED, "JSON", _takes_a_data_url, HTTP),
    _row(
        "images[].image_url",
        ("http(s): URL",),
        REFUSED,
        "400, unless the operator names hosts (`limits.remote_images`)",
        refuses(
            JSON,
            "",
            {"images": [{"image_url": "http://127.0.0.1:1/a.png"}]},
            {"images": [{"image_url": "https://example.com/a.png"}]},
            {"images": [{"image_url": "file:///etc/passwd"}]},
        ),
        HTTP,
    ),
    _row(
        "images[].file_id, mask.file_id",
        ("of an upload",),
        HONOURED,
        "JSON; `POST /v1/files` with purpose vision",
        _names_a_file,
        HTTP,
    ),
    _row(
        "images[].file_id",
        ("of an earlier output",),
        HONOURED,
        "JSON; the `id` beside each picture",
        _goes_on_from_an_output,
        HTTP,
    ),
    _row("markup.image_url", ("data: URL",), HONOURED, "JSON", _markup_by_url, HTTP),
    _row(
        "images",
        ("missing", "two"),
        REFUSED,
        "400",
        both(
            refuses(JSON, "images", {"user": "u"}, param="images"),
            refuses(JSON, "at most 1", {"images": [{"image_url": _data_url(flat())}] * 2}),
        ),
        HTTP,
    ),
]
EDITS = [
    *FORM_ROWS,
    *JSON_ROWS,
    *answer_rows("edits", EDIT),
    *event_rows("edits", "image_edit", EDIT),
]


# Tweaks and lineage: ours


def _drawn(client: Client) -> str:
    return str(good(client.call("images.generate", **LOOK)).body["data"][0]["id"])


def _tweak(client: Client, of: str, **fields: Any) -> Answer:
    return client.call(f"POST /images/{of}/tweaks", **fields)


def _tweaked(test: Any, **fields: Any) -> Check:
    def check(client: Client) -> None:
        answer = good(_tweak(client, _drawn(client), **fields))
        expect(bool(test(answer.body)), True, f"a tweak by {fields}")

    return check


def _same_variation(client: Client) -> None:
    image = _drawn(client)
    first, again = (pictures(_tweak(client, image, seed=3, strength=0.3)) for _ in range(2))
    expect(first == again, True, "the same seed and strength")


def _history(client: Client) -> None:
    first = _drawn(client)
    second = str(good(_tweak(client, first, delta="in the snow")).body["data"][0]["id"])
    third = str(good(_tweak(client, second, seed=4)).body["data"][0]["id"])
    shown = good(client.call(f"GET /images/{second}/lineage")).body
    expect([one["id"] for one in shown["ancestors"]], [first], "ancestors")
    expect([one["id"] for one in shown["children"]], [third], "children")


def _tweak_row(name: str, note: str, check: Check, does: Does = HONOURED) -> Row:
    return Row("tweaks", "parameter", name, (), does, note, check, HTTP)


def _of_another_tenant(client: Client) -> None:
    for path in ("img_" + "0" * 32 + "_0", "img_x"):
        answer = _tweak(client, path, seed=1)
        expect(answer.status, 404, f"{path}: {answer.error}")


def _unknown(client: Client) -> None:
    error = _tweak(client, _drawn(client), image="x").error or {}
    expect(error.get("param"), "image", f"{error}")


TWEAKS = [
    _tweak_row(
        "delta",
        "added to the words it was drawn by; `revised_prompt` says the whole",
        _tweaked(
            lambda body: body["data"][0]["revised_prompt"] == "a red fox, in the snow",
            delta="in the snow",
        ),
    ),
    _tweak_row(
        "prompt",
        "other words; not revised",
        _tweaked(lambda body: "revised_prompt" not in body["data"][0], prompt="a blue fox"),
    ),
    _tweak_row("strength, seed", "variations of one's own picture", _same_variation),
    _tweak_row(
        "mask",
        "only there",
        _tweaked(lambda body: body["usage"]["output_tokens"] > 0, mask=_data_url(hole())),
    ),
    _tweak_row(
        "GET /v1/images/{id}/lineage", "ancestors, the picture, and what became of it", _history
    ),
    _tweak_row(
        "{id}", "404 `image_not_found` for another tenant's or none", _of_another_tenant, REFUSED
    ),
    _tweak_row("anything else", "400", _unknown, REFUSED),
]
