"""Blobs in a bucket of S3, or of a server that speaks it. The only file that imports obstore.

Calls block, without holding the interpreter's lock: they are made in threads. Each ends within
LONGEST_SECONDS, tried again after errors that may pass.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from jobs.blobs.marker import MARKER
from jobs.blobs.places import S3Place
from jobs.blobs.store import BlobMissing, StoreUnavailable, check_key

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential

LONGEST_SECONDS = 25.0
"""Of one request with its answer; a dispatcher gives up on a store after 30."""
CONNECT_SECONDS, SILENT_SECONDS = 3.0, 10.0
"""Until there is a connection, and between two signs of life on it."""
TRIES, TRY_AGAIN_SECONDS = 4, 8.0
"""So often, and only while so little time has gone by."""
PART_BYTES = 8 * 2**20
"""Larger blobs go in several parts."""
KEYS_SECONDS = 300.0
"""Then the files of the access key are read again."""
KEY_FIELDS = ("access_key_id_file", "secret_access_key_file", "session_token_file")
PROBE = ".meltproof-probe-"
_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
_CODE = re.compile(r"<Code>(\w+)</Code>")
_NO_BUCKET = "NoSuchBucket"
_NO_RANGE = "416"


class StoreRefused(ValueError):
    """A bucket that cannot be used: the field of `blobs.s3`, and what is wrong with it."""


class S3Blobs:
    """A BlobStore. Keys are written once: of two writers of one the first stays, and the other is
    told nothing, since both have whole bytes of the same render."""

    round_trip_bytes = 2**19

    def __init__(self, place: S3Place) -> None:
        self._place = place
        self._store = _opened(place)

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """See BlobStore: every answer of S3 is durable."""
        check_key(key)
        kind = {"Content-Type": _TYPES.get(key.rpartition(".")[2], "application/octet-stream")}
        with _errors(key):
            if len(data) <= PART_BYTES:
                self._create(key, data, kind)
            elif not self._there(key):  # parts cannot be written under a condition
                obstore.put(self._store, key, data, attributes=kind, chunk_size=PART_BYTES)

    def get(self, key: str) -> bytes:
        """See BlobStore."""
        check_key(key)
        with _errors(key):
            return bytes(obstore.get(self._store, key).bytes())

    def size(self, key: str) -> int:
        """See BlobStore."""
        check_key(key)
        with _errors(key):
            try:
                return obstore.head(self._store, key)["size"]
            except FileNotFoundError:  # HEAD does not say whether the bucket is there
                return len(bytes(obstore.get(self._store, key).bytes()))

    def read(self, key: str, offset: int, length: int) -> bytes:
        """See BlobStore."""
        check_key(key)
        with _errors(key):
            try:
                return bytes(obstore.get_range(self._store, key, start=offset, length=length))
            except BaseError as error:
                if _NO_RANGE not in str(error) or self.size(key) > offset:
                    raise
                return b""

    def delete(self, key: str) -> None:
        """See BlobStore."""
        check_key(key)
        with _errors(key):
            obstore.delete(self._store, key)

    def clear(self, prefix: str, keep: Collection[str] = ()) -> None:
        """See BlobStore: a listing, and one request for a thousand blobs."""
        check_key(prefix)
        with _errors(prefix):
            found = obstore.list_with_delimiter(self._store, prefix)["objects"]
            gone = [blob["path"] for blob in found if blob["path"] not in keep]
            if gone:
                obstore.delete(self._store, gone)

    def link(self, key: str, method: Literal["GET", "HEAD"], seconds: float) -> str | None:
        """See BlobStore."""
        check_key(key)
        if not self._place.redirect:
            return None
        with _errors(key):
            return obstore.sign(self._store, method, key, timedelta(seconds=seconds))

    def check(self) -> None:
        """Whether it can be used: it keeps what is created from being written again, and lists and
        deletes. Leaves nothing. Raises StoreRefused."""
        self._check_key_files()
        bucket, probe = self._place.bucket, PROBE + secrets.token_hex(8)
        with _refusing(bucket, self._place.endpoint, "reading"):
            self._read_hidden(MARKER)
        with _refusing(bucket, self._place.endpoint, "writing"):
            first, second = (self._create(probe, data) for data in (b"1", b"2"))
        with _refusing(bucket, self._place.endpoint, "listing or deleting"):
            obstore.list_with_delimiter(self._store, probe)
            obstore.delete(self._store, probe)
        if not first or second:
            raise StoreRefused(
                "endpoint: does not keep If-None-Match: two writers of a blob would not notice"
            )

    def _check_key_files(self) -> None:
        for field, name in zip(KEY_FIELDS, self._place.key_files, strict=False):
            try:
                found = Path(name).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "is not text"
                raise StoreRefused(f"{field}: {name}: {reason}") from None
            if not found:
                raise StoreRefused(f"{field}: {name}: is empty")

    def _create(self, key: str, data: bytes, kind: dict[str, str] | None = None) -> bool:
        """Whether it was not there yet; also when it was this call's own first try that came
        through, although its answer was lost."""
        try:
            obstore.put(
                self._store, key, data, attributes=kind or {}, mode="create", use_multipart=False
            )
        except AlreadyExistsError:
            return False
        return True

    def _there(self, key: str) -> bool:
        try:
            obstore.head(self._store, key)
        except FileNotFoundError:
            return False
        return True

    def _read_hidden(self, name: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError as error:
            if _NO_BUCKET in str(error):
                raise
            return None


class S3Marker:
    """See Marker: an object that no blob's key can name."""

    def __init__(self, place: S3Place) -> None:
        below = f"/{place.prefix}" if place.prefix else ""
        self.field, self.place = place.field, f"s3://{place.bucket}{below}"
        self.repair = f"write {{known}} into the object {MARKER} there"
        self._store = S3Blobs(place)

    def read(self) -> str | None:
        """See Marker."""
        with _errors(MARKER):
            found = self._store._read_hidden(MARKER)
        return None if found is None else found.decode().strip() or None

    def create(self, made: str) -> bool:
        """See Marker."""
        with _errors(MARKER):
            return self._store._create(MARKER, made.encode())

    def replace(self, made: str) -> None:
        """See Marker."""
        with _errors(MARKER):
            obstore.put(self._store._store, MARKER, made.encode(), use_multipart=False)

    def remove(self) -> None:
        """See Marker."""
        with _errors(MARKER):
            obstore.delete(self._store._store, MARKER)


def _opened(place: S3Place) -> S3Store:
    config: S3Config = {
        "region": place.region,
        "virtual_hosted_style_request": not place.path_style,
    }
    if place.endpoint is not None:
        config["endpoint"] = place.endpoint
    client: ClientConfig = {
        "allow_http": (place.endpoint or "").startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=SILENT_SECONDS),
        "timeout": timedelta(seconds=LONGEST_SECONDS),
    }
    again: RetryConfig = {
        "max_retries": TRIES - 1,
        "retry_timeout": timedelta(seconds=TRY_AGAIN_SECONDS),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=2),
            "base": 2,
        },
    }
    return S3Store(
        place.bucket,
        prefix=place.prefix or None,
        config=config,
        client_options=client,
        retry_config=again,
        credential_provider=_KeyFiles(place.key_files) if place.key_files else None,
    )


class _KeyFiles:
    """Reads the access key when it is needed, so that a new one needs no restart."""

    def __init__(self, files: tuple[str, ...]) -> None:
        self._files = files

    def __call__(self) -> S3Credential:
        key_id, secret, *token = (Path(name).read_text().strip() for name in self._files)
        return {
            "access_key_id": key_id,
            "secret_access_key": secret,
            "token": token[0] if token else None,
            "expires_at": datetime.now(UTC) + timedelta(seconds=KEYS_SECONDS),
        }


@contextmanager
def _errors(key: str) -> Iterator[None]:
    """Raises BlobMissing and StoreUnavailable."""
    try:
        yield
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise StoreUnavailable(_reason(error)) from None
        raise BlobMissing(key) from None
    except BaseError as error:
        raise StoreUnavailable(_reason(error)) from None


@contextmanager
def _refusing(bucket: str, endpoint: str | None, what: str) -> Iterator[None]:
    """Raises StoreRefused with the field at fault."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        code = _CODE.search(str(error))
        if _NO_BUCKET in str(error):
            at = "" if endpoint is None else f" at {endpoint}"
            raise StoreRefused(f"bucket: there is no bucket {bucket!r}{at}") from None
        if code is not None:
            raise StoreRefused(f"bucket: {bucket!r} forbids {what}: {code[1]}") from None
        raise StoreRefused(f"endpoint: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """In one line, without what obstore adds for itself."""
    first = str(error).partition("\n")[0]
    code = _CODE.search(str(error))
    return first if code is None or code[1] in first else f"{first} {code[1]}"
