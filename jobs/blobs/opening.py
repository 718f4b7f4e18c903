"""From the place of the blobs to their store."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from jobs.blobs.marker import DirectoryMarker, Ids, Marker, check_marker
from jobs.blobs.places import BlobPlace, DirectoryPlace
from jobs.blobs.s3 import S3Blobs, S3Marker
from jobs.blobs.store import BlobStore, DirectoryBlobs, StoreUnavailable

log = logging.getLogger(__name__)


def open_store(place: BlobPlace) -> BlobStore:
    """OSError for a directory that cannot be made."""
    if isinstance(place, DirectoryPlace):
        return DirectoryBlobs(place.directory)
    return S3Blobs(place)


def check_store(ledger: Ids, place: BlobPlace, sleep: Callable[[float], None] = time.sleep) -> None:
    """Whether what is stored here is what the ledger's other processes read. Raises StoreNotShared,
    LedgerUnavailable, and OSError for a directory that cannot be read or written. A bucket that is
    away is checked no further: what needs it waits until it is back."""
    try:
        check_marker(ledger, _marker(place), sleep)
    except StoreUnavailable as error:
        log.warning("%s: away, used unchecked: %s", place.field, error)


def mark_restored(ledger: Ids, place: BlobPlace) -> None:
    """A place that was filled from a backup gets the marker that its ledger knows. Raises as
    `check_store`."""
    marker, known = _marker(place), ledger.store_id()
    if known is not None and marker.read() is None:
        marker.create(known)
    check_store(ledger, place)


def check_bucket(place: BlobPlace) -> None:
    """Whether a bucket can be used; asks nothing of a directory. Raises StoreRefused."""
    if not isinstance(place, DirectoryPlace):
        S3Blobs(place).check()


def _marker(place: BlobPlace) -> Marker:
    return DirectoryMarker(place) if isinstance(place, DirectoryPlace) else S3Marker(place)
