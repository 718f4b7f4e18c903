"""What pictures are marked and signed with: read from files, checked, and on a single machine made
where nothing is configured. Touches the disk; knows no pictures."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from engine.provenance.manifest import CannotSign, Signer, Signing
from engine.provenance.pattern import MarkKey

T = TypeVar("T")

LOCAL_KEY = "local"
LOCAL_DAYS = 3650
SECRET_BYTES = 32
CHAIN, KEY, ANCHOR, SECRET = "certificate.pem", "private_key.pem", "ca.pem", "watermark.key"


class IdentityUnusable(ValueError):
    """A field of the section `provenance` and what is wrong with what it names."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A watermark's key, or where it is."""

    id: str
    secret: bytes | None = field(default=None, repr=False)
    file: str | None = None


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """Where everything is. keys: of watermarks, the marking one first. certificate and private_key:
    both or none. directory: where a local identity is made in place of what is missing."""

    watermark: bool
    manifest: bool
    directory: str
    keys: tuple[KeyFile, ...] = ()
    certificate: str | None = None
    private_key: str | None = None
    anchors: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What marks and what signs, None where that is off; what is believed when pictures are
    checked: every key, and PEM certificates."""

    mark: MarkKey | None = None
    signing: Signing | None = None
    keys: tuple[MarkKey, ...] = ()
    anchors: bytes = field(default=b"", repr=False)

    @property
    def expires_at(self) -> float | None:
        """When what signs pictures does, in seconds since the epoch."""
        if self.signing is None:
            return None
        leaf = x509.load_pem_x509_certificates(self.signing.chain)[0]
        return leaf.not_valid_after_utc.timestamp()


NO_IDENTITY = Identity()
"""Both layers are off."""


def check_identity(files: IdentityFiles, now: datetime) -> None:
    """What is configured, before anything starts; makes nothing. IdentityUnusable."""
    _keys(files.keys)
    if files.certificate is not None:
        _signing(files, now)
    if files.anchors is not None:
        _anchors(files.anchors)


def read_identity(files: IdentityFiles, now: datetime) -> Identity:
    """What is configured, and for the rest what the first process made for all that share the
    directory. IdentityUnusable, OSError."""
    if (files.watermark and not files.keys) or (files.manifest and not files.certificate):
        _make(Path(files.directory), now)
    known, own = known_identity(files), files
    if files.certificate is None:
        local = Path(files.directory)
        own = replace(files, certificate=str(local / CHAIN), private_key=str(local / KEY))
    signing = _signing(own, now) if files.manifest else None
    return replace(known, mark=known.keys[0] if files.watermark else None, signing=signing)


def known_identity(files: IdentityFiles) -> Identity:
    """What pictures are checked with: nothing is made, and no certificate of ours has to be valid.
    IdentityUnusable, OSError."""
    keys = _keys(files.keys)
    anchors = b"" if files.anchors is None else _anchors(files.anchors)
    local = Path(files.directory)
    if local.is_dir():
        keys += (MarkKey(LOCAL_KEY, (local / SECRET).read_bytes()),)
        anchors += (local / ANCHOR).read_bytes()
    return Identity(keys=keys, anchors=anchors)


def _keys(files: tuple[KeyFile, ...]) -> tuple[MarkKey, ...]:
    return tuple(MarkKey(key.id, _secret(key, number)) for number, key in enumerate(files))


def _secret(key: KeyFile, number: int) -> bytes:
    if key.secret is not None:
        return key.secret
    name = f"keys.{number}.file"
    secret = _read(name, key.file or "").strip()
    if len(secret) < SECRET_BYTES:
        raise IdentityUnusable(f"{name}: {key.file}: must hold at least {SECRET_BYTES} bytes")
    return secret


def _signing(files: IdentityFiles, now: datetime) -> Signing:
    chain_path, key_path = files.certificate or "", files.private_key or ""
    chain, key = _read("certificate", chain_path), _read("private_key", key_path)
    leaf = _parsed("certificate", chain_path, lambda: x509.load_pem_x509_certificates(chain))[0]
    private = _parsed("private_key", key_path, lambda: load_pem_private_key(key, None))
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name != "secp256r1":
        raise IdentityUnusable(f"private_key: {key_path}: must be a key of the curve P-256")
    if leaf.public_key() != private.public_key():
        wrong = f"{key_path} is not the key of the first certificate in {chain_path}"
        raise IdentityUnusable(f"private_key: {wrong}")
    if leaf.not_valid_after_utc <= now:
        raise IdentityUnusable(
            f"certificate: {chain_path}: expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M}Z"
        )
    if leaf.not_valid_before_utc > now:
        begins = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M}Z"
        raise IdentityUnusable(f"certificate: {chain_path}: is not valid before {begins}")
    try:
        Signer(Signing(chain, key))
    except CannotSign as error:
        raise IdentityUnusable(f"certificate: {chain_path}: {error}") from None
    return Signing(chain, key)


def _anchors(path: str) -> bytes:
    pem = _read("trust_anchors", path)
    _parsed("trust_anchors", path, lambda: x509.load_pem_x509_certificates(pem))
    return pem if pem.endswith(b"\n") else pem + b"\n"


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise IdentityUnusable(f"{name}: {path}: {error.strerror}") from None


def _parsed(name: str, path: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: a key with a password
        what = "an unencrypted private key" if name == "private_key" else "certificates"
        raise IdentityUnusable(f"{name}: {path}: is no PEM file of {what}") from None


def _make(place: Path, now: datetime) -> None:
    """A local authority and all that it gives, whole or not at all: processes that start together
    all read what the first one made. The authority's own key is not kept."""
    if place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    making = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
    making.mkdir(mode=0o700)
    try:
        for name, data in _local_files(now).items():
            descriptor = os.open(making / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
        making.rename(place)
    except FileExistsError:  # another process was first
        shutil.rmtree(making)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        if not place.exists():
            raise


def _local_files(now: datetime) -> dict[str, bytes]:
    authority, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _certificate("Meltproof local authority", authority, None, now)
    leaf = _certificate("Meltproof on this machine", signer, (ca, authority), now)
    pem = [one.public_bytes(Encoding.PEM) for one in (leaf, ca)]
    return {
        CHAIN: b"".join(pem),
        KEY: signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        ANCHOR: pem[1],
        SECRET: secrets.token_bytes(SECRET_BYTES),
    }


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
    now: datetime,
) -> x509.Certificate:
    """As C2PA wants them. issuer: None for an authority."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Meltproof (self-signed)"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    by, sign = (subject, key) if issuer is None else (issuer[0].subject, issuer[1])
    is_ca, public, by_public = issuer is None, key.public_key(), sign.public_key()
    usage = {
        "digital_signature": not is_ca,
        "key_cert_sign": is_ca,
        "crl_sign": is_ca,
        **dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment"), False),
        **dict.fromkeys(("key_agreement", "encipher_only", "decipher_only"), False),
    }
    made = (
        x509.CertificateBuilder(by, subject, public, x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - timedelta(minutes=5))
        .not_valid_after(now.astimezone(UTC) + timedelta(days=LOCAL_DAYS))
        .add_extension(x509.BasicConstraints(is_ca, 0 if is_ca else None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by_public), critical=False
        )
    )
    if not is_ca:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        made = made.add_extension(purpose, critical=False)
    return made.sign(sign, hashes.SHA256())
