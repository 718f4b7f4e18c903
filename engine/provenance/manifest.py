"""C2PA manifests: a signed statement in a picture's file of what made it, from what, and when.

Signed last, as any change of the file breaks it. Pure of the network: no timestamps of others, no
remote manifests, no revocation lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Literal

import c2pa

from engine.picture import OutputFormat

GENERATOR = {"name": "Meltproof"}
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DRAWN, COMPOSED = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
MOST_ANCESTORS = 10
"""Manifests that a parent may bring along; one with more is named without them."""
MOST_ORIGINAL_BYTES = 16 * 2**20
PARENT = "parent"

State = Literal["trusted", "valid", "invalid", "not_present"]
_STATES: dict[str | None, State] = {"Trusted": "trusted", "Valid": "valid"}


@dataclass(frozen=True, slots=True)
class Signing:
    """PEM: certificates of the chain, the signing one first; its private key, of curve P-256."""

    chain: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parent:
    """What an edit goes on from. file: with its own manifest, where there is one."""

    title: str
    file: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Made:
    """How a picture came to be."""

    model: str
    at: datetime
    parent: Parent | None = None


@dataclass(frozen=True, slots=True)
class ManifestFound:
    """What a file's manifest says, and whether that can be believed: `trusted` when it is signed
    under one of our anchors, `valid` when by others and the file is as it was signed, `invalid`
    when it is not. problems: codes of the C2PA specification."""

    state: State
    issuer: str | None = None
    model: str | None = None
    generated_at: str | None = None
    source_type: str | None = None
    ancestors: int = 0
    problems: tuple[str, ...] = ()


ABSENT = ManifestFound("not_present")


class CannotSign(ValueError):
    """The certificate and the key are not fit for it, or not any more."""


class Signer:
    """Signs files. Raises CannotSign."""

    def __init__(self, signing: Signing) -> None:
        self._context = _context("")
        try:
            info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, signing.chain, signing.key, None)
            self._signer = c2pa.Signer.from_info(info)
        except c2pa.C2paError as error:
            raise CannotSign(f"cannot sign: {error}") from None

    def sign(self, file: bytes, output_format: OutputFormat, made: Made) -> bytes:
        """The file with its manifest. Raises CannotSign."""
        kind = f"image/{output_format}"
        try:
            manifest = _manifest(made, kind)
            if made.parent is None:
                builder = c2pa.Builder(manifest, context=self._context)
            else:
                builder = _with_parent(manifest, made.parent, self._context)
            signed = BytesIO()
            builder.sign(self._signer, kind, BytesIO(file), signed)
        except c2pa.C2paError as error:
            raise CannotSign(f"cannot sign: {error}") from None
        return signed.getvalue()


def check(file: bytes, anchors: bytes = b"") -> ManifestFound:
    """What is in a picture's file, trusted or not. anchors: PEM certificates that are trusted."""
    kind = media_type(file)
    if kind is None:
        return ABSENT
    try:
        reader = c2pa.Reader.try_create(kind, BytesIO(file), context=_context(anchors.decode()))
        if reader is None:
            return ABSENT
        with reader:
            told: dict[str, Any] = json.loads(reader.json())
    except c2pa.C2paError as error:
        return ManifestFound("invalid", problems=(str(error).partition(":")[0],))
    return _read(told)


def may_hold_manifest(file: bytes) -> bool:
    """Whether it is worth keeping with what is made from it; nothing is read."""
    return len(file) <= MOST_ORIGINAL_BYTES and all(word in file for word in (b"jumb", b"c2pa"))


def media_type(file: bytes) -> str | None:
    """By the first bytes; None for what is none of our formats."""
    if file.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if file.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if file[:4] == b"RIFF" and file[8:12] == b"WEBP" else None


def _manifest(made: Made, kind: str) -> dict[str, Any]:
    common = {
        "when": made.at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "softwareAgent": {"name": made.model},
        "digitalSourceType": SOURCES + (COMPOSED if made.parent else DRAWN),
    }
    actions: list[dict[str, Any]] = [{"action": "c2pa.created", **common}]
    if made.parent is not None:
        opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [PARENT]}}
        actions = [opened, {"action": "c2pa.edited", **common}]
    return {
        "claim_generator_info": [GENERATOR],
        "format": kind,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
        "ingredients": [],
    }


def _with_parent(manifest: dict[str, Any], parent: Parent, context: c2pa.Context) -> c2pa.Builder:
    """With its history, unless that is too long or does not hold."""
    file = parent.file or b""
    kind, found = media_type(file), check(file)
    said = {"title": parent.title, "relationship": "parentOf", "label": PARENT}
    if kind and found.state in ("valid", "trusted") and found.ancestors < MOST_ANCESTORS:
        with suppress(c2pa.C2paError):
            builder = c2pa.Builder(manifest, context=context)
            builder.add_ingredient(said, kind, BytesIO(file))
            return builder
    plain = {**said, "format": kind or "image/png", "instance_id": f"xmp:iid:{parent.title}"}
    return c2pa.Builder({**manifest, "ingredients": [plain]}, context=context)


def _context(anchors: str) -> c2pa.Context:
    settings = {
        "version": 1,
        "verify": {
            "verify_after_sign": False,
            "verify_trust": True,
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
        },
        "builder": {"thumbnail": {"enabled": False}},
        "trust": {"trust_anchors": anchors} if anchors else {},
    }
    return c2pa.Context(c2pa.Settings.from_json(json.dumps(settings)))


def _read(told: Mapping[str, Any]) -> ManifestFound:
    """Of what the reader says; every part of it may be missing, as others have written it."""
    manifests = told.get("manifests") or {}
    active = manifests.get(told.get("active_manifest")) or {}
    action = _action(active)
    source = str(action.get("digitalSourceType") or "").rpartition("/")[2]
    agent = action.get("softwareAgent")
    results = (told.get("validation_results") or {}).get("activeManifest") or {}
    return ManifestFound(
        state=_STATES.get(told.get("validation_state"), "invalid"),
        issuer=_text((active.get("signature_info") or {}).get("issuer")),
        model=_text(agent.get("name") if isinstance(agent, dict) else agent),
        generated_at=_text(action.get("when")),
        source_type=_text(source),
        ancestors=max(0, len(manifests) - 1),
        problems=tuple(str(one.get("code")) for one in results.get("failure") or ()),
    )


def _action(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last one that says of what kind the picture is."""
    for assertion in manifest.get("assertions") or ():
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            for action in reversed((assertion.get("data") or {}).get("actions") or ()):
                if action.get("digitalSourceType"):
                    found: Mapping[str, Any] = action
                    return found
    return {}


def _text(value: object) -> str | None:
    return value[:255] if isinstance(value, str) and value else None
