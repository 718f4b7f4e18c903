"""What of one render is saved: its newest checkpoint, and how that stands in the ledger's row."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.job import Render

ROW_BYTES = 16_384
"""Larger checkpoints are blobs, and the row says which: a heartbeat writes the rows of all renders
in flight about once a second."""
_BLOB = b"blob:"
"""No packed checkpoint in a row begins so: that would be one with a model name of 27,746 bytes."""


def key_of(row: bytes | None) -> str | None:
    """The key of the blob that a row's checkpoint is in, or None where it is in the row."""
    if row is None or not row.startswith(_BLOB):
        return None
    return row.removeprefix(_BLOB).decode()


@dataclass(slots=True)
class Saved:
    """Of an image in flight."""

    newest: bytes | None
    """Packed: what its next decoder goes on from. Of a blob, None until it is loaded."""
    passes: int
    """Passes done in it."""
    row: bytes | None
    """What the next heartbeat writes, which may be older."""
    row_passes: int
    blobs: frozenset[str] = frozenset()
    """Keys of all that may be in the store."""
    pending: str | None = None
    """One of them, which is being written."""
    unstored: bool = False
    """The newest belongs into the store and is not there."""

    @classmethod
    def of(cls, render: Render) -> Saved:
        """As the ledger has it."""
        row, passes = render.checkpoint, render.saved_passes
        if (key := key_of(row)) is None:
            return cls(row, passes, row, passes)
        return cls(None, passes, row, passes, frozenset({key}))

    @property
    def final_tokens(self) -> bytes | None:
        """What is kept with a picture, for edits to go on from; large ones are no tokens."""
        return None if self.newest is not None and len(self.newest) > ROW_BYTES else self.newest

    def save(self, checkpoint: bytes, passes: int) -> None:
        """A decoder has sent it."""
        self.newest, self.passes = checkpoint, passes
        self.unstored = len(checkpoint) > ROW_BYTES
        if not self.unstored:
            self.row, self.row_passes = checkpoint, passes

    def storing(self, key: str) -> None:
        """The newest is on its way to this key."""
        self.blobs, self.pending = self.blobs | {key}, key

    def stored(self, key: str, checkpoint: bytes, passes: int) -> None:
        """This one is there now. It may be older than the newest, but never than the row's."""
        if self.unstored:
            self.row, self.row_passes = _BLOB + key.encode(), passes
            self.unstored = checkpoint is not self.newest

    def wrote(self) -> None:
        """Nothing is on its way any more, whatever came of it."""
        self.pending = None

    def loaded(self, checkpoint: bytes | None) -> None:
        """What the row refers to; None when that is gone: the render begins again."""
        self.newest = checkpoint
        if checkpoint is None:
            self.passes, self.row, self.row_passes = 0, None, 0

    def forget(self, recorded: bytes) -> list[str]:
        """Keys that nothing needs: neither the ledger's row, which is `recorded`, nor the next
        heartbeats."""
        return self._forget({key_of(recorded), key_of(self.row), self.pending})

    def forget_all(self) -> list[str]:
        """Every key: the render is settled."""
        return self._forget(set())

    def _forget(self, kept: set[str | None]) -> list[str]:
        gone = self.blobs - kept
        self.blobs -= gone
        return sorted(gone)
