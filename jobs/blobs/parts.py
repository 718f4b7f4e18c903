"""Files of lines in a store: bytes in parts, of which one is in memory at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from jobs.blobs.store import BlobMissing, BlobStore
from jobs.blobs.threads import in_store
from jobs.files import PART_BYTES, part_key, part_sizes


class PartsWriter:
    """Of one file. The row of the file is there before."""

    def __init__(self, blobs: BlobStore, file_id: str) -> None:
        self._blobs = blobs
        self._file_id = file_id
        self._kept = bytearray()
        self._keys: list[str] = []
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._bytes + len(self._kept)

    async def write(self, data: bytes) -> None:
        """Raises OSError when the store cannot."""
        self._kept += data
        while len(self._kept) >= PART_BYTES:
            await self._put(bytes(self._kept[:PART_BYTES]))
            del self._kept[:PART_BYTES]

    async def close(self) -> tuple[str, ...]:
        """The keys of all parts, which are stored."""
        if self._kept:
            await self._put(bytes(self._kept))
            self._kept.clear()
        return tuple(self._keys)

    async def _put(self, data: bytes) -> None:
        key = part_key(self._file_id, len(self._keys))
        await in_store(self._blobs.put, key, data)
        self._keys.append(key)
        self._bytes += len(data)


async def read_parts(blobs: BlobStore, keys: Sequence[str]) -> AsyncIterator[bytes]:
    """The file, part by part. Raises BlobMissing."""
    for key in keys:
        yield await in_store(blobs.get, key)


async def read_range(
    blobs: BlobStore, keys: Sequence[str], size_bytes: int, offset: int, length: int
) -> bytes:
    """`length` bytes from `offset` on, of a file of `size_bytes`. Raises BlobMissing."""
    found, sizes = bytearray(), part_sizes(size_bytes)
    while length > 0:
        number, start = divmod(offset, PART_BYTES)
        if number >= len(keys):
            raise BlobMissing(f"byte {offset} of {size_bytes}")
        wanted = min(length, sizes[number] - start)
        data = await in_store(blobs.read, keys[number], start, wanted)
        if wanted < 1 or len(data) != wanted:
            raise BlobMissing(keys[number])
        found += data
        offset, length = offset + wanted, length - wanted
    return bytes(found)
