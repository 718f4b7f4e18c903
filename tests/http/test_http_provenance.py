"""Pictures say where they came from, through all of the service: marked, signed, and checked."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import yaml
from PIL import Image

from dispatch.identity import SECRET, IdentityFiles, read_identity
from engine.picture import encode
from engine.provenance.manifest import Made, Signer
from serve_app.config.provenance import LOCAL
from serve_app.operate.commands import verify
from tests.page.pipeline import CONFIG, Pipeline
from tests.stages.attacks import jpeg
from tests.stages.pictures import picture

SETTINGS: dict[str, Any] = {
    **CONFIG,
    "provenance": {"keys": [{"id": "key-7", "secret": "a secret of thirty-two characters"}]},
}


@dataclass(frozen=True)
class Marking:
    """A service that marks and signs. config: its config file."""

    client: openai.OpenAI
    url: str
    config: Path

    def results(self, file: bytes) -> list[dict[str, Any]]:
        checked = self.client.content_provenance_checks.create(file=("any", file))
        assert checked.object == "content_provenance_check"
        return checked.to_dict(warnings=False)["results"]  # type: ignore[return-value]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marking]:
    place = tmp_path_factory.mktemp("provenance")
    settings = {**SETTINGS, "blobs": {"directory": str(place / "blobs")}}
    application = {"name": "lane", "import_path": "serve_app.app:build", "args": settings}
    config = place / "config.yaml"
    config.write_text(yaml.safe_dump({"applications": [application]}))
    running = Pipeline(place, settings)
    url = f"{running.url}v1"
    with openai.OpenAI(base_url=url, api_key="sk-local", max_retries=0) as client:
        yield Marking(client, url, config)
    running.close()


def file_of(b64: str | None) -> bytes:
    assert b64 is not None
    return base64.b64decode(b64)


@pytest.fixture(scope="module")
def drawn(service: Marking) -> bytes:
    answer = service.client.images.generate(prompt="a red fox")
    assert answer.data is not None
    return file_of(answer.data[0].b64_json)


def test_a_picture_has_both_layers(service: Marking, drawn: bytes) -> None:
    manifest, mark = service.results(drawn)
    assert (manifest["type"], manifest["outcome"], manifest["validation_state"]) == (
        *("c2pa", "detected"),
        "trusted",
    )
    assert manifest["model"] == CONFIG["model"]["name"]  # type: ignore[index]
    assert manifest["source_type"] == "trainedAlgorithmicMedia"
    assert manifest["generated_at"].startswith("20")
    assert manifest["problems"] == []
    assert (mark["type"], mark["outcome"], mark["key_id"]) == ("watermark", "detected", "key-7")
    assert mark["scale"] == pytest.approx(1.0, abs=0.01)


def test_a_copy_without_its_manifest_has_its_mark(service: Marking, drawn: bytes) -> None:
    copy = BytesIO()
    with Image.open(BytesIO(drawn)) as whole:
        jpeg(whole.convert("RGB")).resize((384, 384)).save(copy, "WEBP", quality=90)
    manifest, mark = service.results(copy.getvalue())
    assert (manifest["outcome"], manifest["validation_state"]) == ("not_detected", "not_present")
    assert mark["key_id"] == "key-7"
    assert mark["scale"] == pytest.approx(1.5, abs=0.01)


def test_previews_are_marked_and_signed_in_every_format(service: Marking) -> None:
    for kind in ("png", "jpeg", "webp"):
        events = list(
            service.client.images.generate(
                prompt=f"a {kind} fox",
                stream=True,
                partial_images=1,
                output_format=kind,  # type: ignore[call-overload]
            )
        )
        assert [event.type.split(".")[1] for event in events] == ["partial_image", "completed"]
        for event in events:
            manifest, mark = service.results(file_of(event.b64_json))
            assert manifest["validation_state"] == "trusted"
            assert mark["outcome"] == "detected"


@pytest.fixture(scope="module")
def signed_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Its history is not read by a dispatcher."""
    place, now = tmp_path_factory.mktemp("elsewhere") / "own", datetime.now(UTC)
    signing = read_identity(IdentityFiles(True, True, str(place)), now).signing
    assert signing is not None
    return Signer(signing).sign(picture((256, 256)), "png", Made("another", now))


def test_an_edit_says_what_it_was_made_from(
    service: Marking, drawn: bytes, signed_elsewhere: bytes
) -> None:
    found, _ = service.results(signed_elsewhere)
    assert (found["validation_state"], found["model"]) == ("valid", "another")
    uploaded = service.client.images.edit(
        image=("fox.png", drawn), prompt="a blue fox", extra_body={"strength": 0.5}
    )
    plain = service.client.images.edit(
        image=("plain.png", picture((256, 256))), prompt="a fox", extra_body={"strength": 0.5}
    )
    foreign = service.client.images.edit(
        image=("foreign.png", signed_elsewhere), prompt="a fox", extra_body={"strength": 0.5}
    )
    for answer, ancestors in ((uploaded, 1), (plain, 0), (foreign, 0)):
        assert answer.data is not None
        manifest, mark = service.results(file_of(answer.data[0].b64_json))
        assert (manifest["validation_state"], manifest["ancestors"]) == ("trusted", ancestors)
        assert manifest["source_type"] == "compositeWithTrainedAlgorithmicMedia"
        assert mark["outcome"] == "detected"


def test_what_an_edit_keeps_is_not_marked_and_what_it_draws_is(service: Marking) -> None:
    sent = np.random.default_rng(3).integers(80, 170, (256, 256, 4), np.uint8)
    sent[..., 3] = np.where(np.arange(256) < 80, 255, 0)
    answer = service.client.images.edit(
        image=("fox.png", encode(sent[..., :3], "png")),
        mask=("mask.png", encode(sent, "png")),
        prompt="a red fox",
    )
    assert answer.data is not None
    file = file_of(answer.data[0].b64_json)
    with Image.open(BytesIO(file)) as whole:
        pixels = np.asarray(whole)
    assert np.array_equal(pixels[:, :80], sent[:, :80, :3])
    _, mark = service.results(file)
    assert mark["key_id"] == "key-7"


def test_a_tweak_goes_on_with_the_history(service: Marking) -> None:
    auth = {"authorization": "Bearer sk-local"}
    with httpx.Client(headers=auth, timeout=60) as http:
        first = http.post(f"{service.url}/images/generations", json={"prompt": "a fox"}).json()
        tweak = http.post(
            f"{service.url}/images/{first['data'][0]['id']}/tweaks",
            json={"prompt": "a bear", "strength": 0.5},
        ).json()
    manifest, _ = service.results(file_of(tweak["data"][0]["b64_json"]))
    assert (manifest["validation_state"], manifest["ancestors"]) == ("trusted", 1)


def test_a_changed_file_is_found_out(service: Marking, drawn: bytes) -> None:
    changed = bytearray(drawn)
    changed[changed.index(b"IDAT") + 4] ^= 1  # where the packed pixels say how they are packed
    with pytest.raises(openai.BadRequestError) as refused:  # PNG checks itself, too
        service.results(bytes(changed))
    assert refused.value.code == "broken_image"
    as_jpeg = service.client.images.generate(prompt="a red fox", output_format="jpeg")
    assert as_jpeg.data is not None
    changed = bytearray(file_of(as_jpeg.data[0].b64_json))
    changed[-200] ^= 1
    manifest, _ = service.results(bytes(changed))
    assert (manifest["outcome"], manifest["validation_state"]) == ("not_detected", "invalid")
    assert manifest["problems"] == ["assertion.dataHash.mismatch"]


def test_a_picture_from_elsewhere_has_neither(service: Marking) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        found = service.results(picture((300, 200), kind))
        assert [one["outcome"] for one in found] == ["not_detected"] * 2


@pytest.mark.parametrize("file", [b"no picture", b"GIF89a", b"\x89PNG\r\n\x1a\nbroken"])
def test_what_is_no_picture_is_refused(service: Marking, file: bytes) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        service.results(file)
    assert refused.value.param == "file"


def test_keys_that_cannot_be_read_are_no_fault_of_the_ledger(
    service: Marking, drawn: bytes
) -> None:
    key = service.config.parent / "blobs" / LOCAL / SECRET
    away = key.rename(key.with_suffix(".away"))
    try:
        with pytest.raises(openai.InternalServerError) as refused:
            service.results(drawn)
    finally:
        away.rename(key)
    assert (refused.value.status_code, refused.value.code) == (503, "keys_unreadable")
    assert service.results(drawn)[1]["outcome"] == "detected"


def test_a_request_without_its_file_is_refused(service: Marking) -> None:
    url, auth = f"{service.url}/content_provenance_checks", {"authorization": "Bearer sk-local"}
    png = {"file": ("a.png", picture())}
    for sent, code in (
        ({"json": {"file": "a"}}, "invalid_form"),
        ({"files": {"image": png["file"]}}, "unknown_parameter"),
        ({"files": png, "data": {"purpose": "vision"}}, "unknown_parameter"),
        ({"data": {"file": "words"}, "files": {"other": png["file"]}}, "invalid_type"),
    ):
        answer = httpx.post(url, headers=auth, **sent)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert httpx.post(url, files=png).status_code == 401


def test_the_command_says_both_layers(
    service: Marking, drawn: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(data: bytes, config: Path = service.config) -> tuple[int, str]:
        file = tmp_path / "picture"
        file.write_bytes(data)
        code = verify.main([str(file), "--config", str(config)])
        return code, "".join(capsys.readouterr())

    code, text = said(drawn)
    assert code == 0
    assert "signed, by a certificate that is trusted here" in text
    assert "watermark: key key-7" in text
    assert said(picture()) == (1, "manifest: none\nwatermark: none\n")
    code, text = said(b"GIF89a")
    assert (code, "is a GIF" in text) == (2, True)
    assert verify.main([str(tmp_path / "missing"), "--config", str(service.config)]) == 2
    assert said(drawn, tmp_path / "missing.yaml")[0] == 2
