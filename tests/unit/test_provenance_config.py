"""The section `provenance`: what cannot mark or sign is refused by name before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from dispatch.identity import CHAIN, KEY, LOCAL_DAYS, IdentityFiles, read_identity
from serve_app.config.cluster import ClusterConfig, parse_cluster_config
from serve_app.config.errors import ConfigError
from serve_app.config.provenance import check_provenance

NOW = datetime.now(UTC)
SECRET = "s" * 32


def made(place: Path, at: datetime = NOW) -> dict[str, str]:
    folder = place / "own"
    read_identity(IdentityFiles(True, True, str(folder)), at)
    return {"certificate": str(folder / CHAIN), "private_key": str(folder / KEY)}


def parsed(**section: Any) -> ClusterConfig:
    return parse_cluster_config({"provenance": section})


@pytest.mark.parametrize("off", [False, "off"])
def test_it_is_on_unless_it_is_off(off: object) -> None:
    shipped, without = ClusterConfig().provenance, parse_cluster_config({"provenance": off})
    assert (shipped.watermark, shipped.manifest) == (True, True)
    assert (without.provenance.watermark, without.provenance.manifest) == (False, False)
    one = parsed(watermark=False).provenance
    assert (one.watermark, one.manifest) == (False, True)


def test_what_fits_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # away from the key that `make demo` has left below the checkout
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    keys = [{"id": "new", "file": str(secret)}, {"id": "old", "secret": "o" * 40}]
    config = parsed(**made(tmp_path / "own"), keys=keys)
    check_provenance(config.identity_files())
    identity = read_identity(config.identity_files(), NOW)
    assert identity.mark is identity.keys[0]
    assert [(key.id, key.secret) for key in identity.keys] == [
        ("new", SECRET.encode()),
        ("old", b"o" * 40),
    ]
    assert SECRET not in repr(config) + repr(identity) + repr(config.identity_files())


def expired(folder: Path) -> dict[str, str]:
    return made(folder, NOW - timedelta(days=LOCAL_DAYS + 1))


def not_yet(folder: Path) -> dict[str, str]:
    return made(folder, NOW + timedelta(days=1))


def mismatched(folder: Path) -> dict[str, str]:
    return {**made(folder), "private_key": made(folder / "other")["private_key"]}


def without_key(folder: Path) -> dict[str, str]:
    return {**made(folder), "private_key": str(folder / "missing.pem")}


def without_certificate(folder: Path) -> dict[str, str]:
    return {**made(folder), "certificate": str(folder / "missing.pem")}


def broken(folder: Path) -> dict[str, str]:
    files = made(folder)
    Path(files["certificate"]).write_text("-----BEGIN CERTIFICATE-----\nno\n")
    return files


def of_another_kind(folder: Path) -> dict[str, str]:
    files = made(folder)
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path(files["private_key"]).write_bytes(pem)
    return files


def with_password(folder: Path) -> dict[str, str]:
    files = made(folder)
    locked = BestAvailableEncryption(b"word")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    Path(files["private_key"]).write_bytes(pem)
    return files


def no_anchors(folder: Path) -> dict[str, str]:
    (folder / "anchors.pem").write_text("none")
    return {"trust_anchors": str(folder / "anchors.pem")}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (expired, r"provenance\.certificate: .*: expired at 20"),
        (not_yet, r"provenance\.certificate: .*: is not valid before"),
        (mismatched, r"provenance\.private_key: .* is not the key of the first certificate"),
        (without_key, r"provenance\.private_key: .*missing\.pem: No such file"),
        (without_certificate, r"provenance\.certificate: .*missing\.pem: No such file"),
        (broken, r"provenance\.certificate: .*: is no PEM file of certificates"),
        (of_another_kind, r"provenance\.private_key: .*: must be a key of the curve P-256"),
        (with_password, r"provenance\.private_key: .*: is no PEM file of an unencrypted"),
        (no_anchors, r"provenance\.trust_anchors: .*: is no PEM file of certificates"),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    tmp_path: Path, make: Callable[[Path], dict[str, str]], said: str
) -> None:
    files = parsed(**make(tmp_path)).identity_files()
    with pytest.raises(ConfigError, match=said):
        check_provenance(files)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"certificate": "a.pem"}, r"provenance\.private_key: is missing"),
        ({"private_key": "a.pem"}, r"provenance\.certificate: is missing"),
        ({"keys": [{"id": "a"}]}, r"provenance\.keys\.0: give either secret or file"),
        ({"keys": [{"id": "a", "secret": "short"}]}, r"provenance\.keys\.0\.secret"),
        ({"keys": [{"id": "a", "secret": SECRET}] * 2}, r"keys\.1\.id: the same id"),
        ({"marks": True}, r"provenance\.marks"),
    ],
)
def test_sections_that_make_no_sense_are_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        parsed(**section)
    assert SECRET not in str(refused.value)


def test_a_key_file_that_is_short_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short")
    for name, said in (("short", "at least 32 bytes"), ("gone", "No such file")):
        files = parsed(keys=[{"id": "a", "file": str(tmp_path / name)}]).identity_files()
        with pytest.raises(ConfigError, match=rf"provenance\.keys\.0\.file: .*{said}"):
            check_provenance(files)
