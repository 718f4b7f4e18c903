"""Manifests hold until a pixel changes, and say of what a picture was made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from dispatch.identity import LOCAL_DAYS, Identity, IdentityFiles, known_identity, read_identity
from engine.picture import OutputFormat, encode
from engine.postprocessing import Postprocessing, Unsigned
from engine.provenance.manifest import (
    ABSENT,
    COMPOSED,
    DRAWN,
    MOST_ANCESTORS,
    Made,
    Parent,
    Signer,
    check,
    may_hold_manifest,
)

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
NOW = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
PIXELS = np.random.default_rng(7).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    folder = tmp_path_factory.mktemp("identity") / "own"
    return read_identity(IdentityFiles(True, True, str(folder)), NOW)


@pytest.fixture(scope="module")
def signer(identity: Identity) -> Signer:
    assert identity.signing is not None
    return Signer(identity.signing)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_signed_file_is_whole_and_says_what_it_is(
    signer: Signer, identity: Identity, kind: OutputFormat
) -> None:
    plain = encode(PIXELS, kind)
    signed = signer.sign(plain, kind, Made("a-model", NOW))
    found = check(signed, identity.anchors)
    assert (found.state, found.problems, found.ancestors) == ("trusted", (), 0)
    assert (found.model, found.generated_at) == ("a-model", "2026-11-29T12:30:00Z")
    assert found.source_type == DRAWN
    assert check(plain, identity.anchors) == ABSENT
    pixels = [np.asarray(Image.open(BytesIO(file))) for file in (plain, signed)]
    assert np.array_equal(*pixels)


def test_a_file_of_an_authority_that_is_not_ours_is_valid_and_not_trusted(signer: Signer) -> None:
    signed = signer.sign(encode(PIXELS, "png"), "png", Made("a-model", NOW))
    found = check(signed)
    assert (found.state, found.problems) == ("valid", ("signingCredential.untrusted",))


@pytest.mark.parametrize("kind", FORMATS)
def test_one_changed_pixel_is_found(signer: Signer, identity: Identity, kind: OutputFormat) -> None:
    """The manifest of one picture in the file of another one that differs in one pixel, and one
    flipped bit in the middle of the picture's data."""
    other = PIXELS.copy()
    other[20, 30, 1] ^= 1
    mine, theirs = (encode(pixels, kind, 100) for pixels in (PIXELS, other))
    signed = signer.sign(mine, kind, Made("a-model", NOW))
    changed = bytearray(signed)
    at = signed.index(mine[-200:-150]) + 25
    changed[at] ^= 1
    assert check(bytes(changed), identity.anchors).state == "invalid"
    if kind == "png":  # its data stands behind the manifest as it was, whatever its length
        data = mine.index(b"IDAT") - 4
        swapped = signed.replace(mine[data:], theirs[theirs.index(b"IDAT") - 4 :])
        assert swapped != signed
        found = check(swapped, identity.anchors)
        assert (found.state, found.problems) == ("invalid", ("assertion.dataHash.mismatch",))


def test_an_edit_names_its_parent_and_brings_its_history_along(
    signer: Signer, identity: Identity
) -> None:
    first = signer.sign(encode(PIXELS, "png"), "png", Made("a-model", NOW))
    second = signer.sign(encode(PIXELS, "webp"), "webp", Made("b", NOW, Parent("img_1", first)))
    found = check(second, identity.anchors)
    assert (found.state, found.ancestors, found.source_type) == ("trusted", 1, COMPOSED)
    assert found.model == "b"


@pytest.mark.parametrize("file", [None, b"no picture", encode(PIXELS, "png")])
def test_a_parent_without_a_history_is_named_alone(
    signer: Signer, identity: Identity, file: bytes | None
) -> None:
    made = Made("a-model", NOW, Parent("upload", file))
    found = check(signer.sign(encode(PIXELS, "jpeg"), "jpeg", made), identity.anchors)
    assert (found.state, found.ancestors, found.source_type) == ("trusted", 0, COMPOSED)


def test_a_parent_whose_file_was_changed_loses_its_history(
    signer: Signer, identity: Identity
) -> None:
    plain = encode(PIXELS, "png")
    parent = signer.sign(plain, "png", Made("a-model", NOW))
    broken = parent.replace(plain[-40:-30], plain[-40:-30][::-1])
    assert check(broken, identity.anchors).state == "invalid"
    made = Made("a-model", NOW, Parent("img_1", broken))
    found = check(signer.sign(plain, "png", made), identity.anchors)
    assert (found.state, found.ancestors) == ("trusted", 0)


def test_histories_do_not_grow_for_ever(signer: Signer, identity: Identity) -> None:
    plain = encode(PIXELS, "png")
    file, longest = signer.sign(plain, "png", Made("a-model", NOW)), 0
    for _ in range(MOST_ANCESTORS + 2):
        file = signer.sign(plain, "png", Made("a-model", NOW, Parent("img", file)))
        found = check(file, identity.anchors)
        assert found.state == "trusted"
        longest = max(longest, found.ancestors)
    assert longest == MOST_ANCESTORS
    assert found.ancestors < MOST_ANCESTORS


def test_what_may_hold_a_manifest_is_seen_without_reading_it(signer: Signer) -> None:
    plain = encode(PIXELS, "png")
    assert may_hold_manifest(signer.sign(plain, "png", Made("m", NOW)))
    assert not may_hold_manifest(plain)


def test_the_local_identity_is_private_and_the_same_for_all(tmp_path: Path) -> None:
    files = IdentityFiles(True, True, str(tmp_path / "blobs" / ".own"))
    assert known_identity(files) == Identity()
    first, second = read_identity(files, NOW), read_identity(files, NOW)
    assert first == second
    assert known_identity(files) == replace(first, mark=None, signing=None)
    assert first.mark is not None
    made = sorted((tmp_path / "blobs" / ".own").iterdir())
    assert [path.stat().st_mode & 0o777 for path in made] == [0o600] * 4
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [".own"]
    assert b"PRIVATE" not in repr(first).encode()


def test_pictures_are_checked_without_what_signs_them(tmp_path: Path) -> None:
    """A gateway needs no private key, and an expired certificate hides no old picture."""
    own = str(tmp_path / "own")
    made = read_identity(IdentityFiles(True, True, own), NOW)
    gone = str(tmp_path / "gone.pem")
    assert known_identity(IdentityFiles(True, True, own, certificate=gone, private_key=gone)) == (
        replace(made, mark=None, signing=None)
    )


def test_an_expired_certificate_signs_nothing(tmp_path: Path) -> None:
    files = IdentityFiles(True, True, str(tmp_path / "old"))
    expired = read_identity(files, NOW - timedelta(days=2 * LOCAL_DAYS))
    work = Postprocessing(64, expired.mark, expired.signing)
    file = work.encode(PIXELS, (64, 48), "png", 100, Made("m", NOW))
    assert isinstance(file, Unsigned)
    assert "not valid" in file.reason
