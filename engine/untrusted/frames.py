"""Messages between the intake and its child: a length, a small JSON head, then raw parts."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import IO, Any

Head = dict[str, Any]
Message = tuple[Head, list[bytes]]

HEAD_BYTES = 65_536


def send(stream: IO[bytes], head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
    """Write one message, whole."""
    text = json.dumps({**head, "parts": [len(part) for part in parts]}).encode()
    stream.write(struct.pack(">I", len(text)) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes], most_bytes: int) -> Message:
    """Read one message. EOFError when the other side is gone, ValueError when it is not one or its
    parts have more than `most_bytes` together: the other side may be controlled by its input."""
    (length,) = struct.unpack(">I", _exactly(stream, 4))
    if length > HEAD_BYTES:
        raise ValueError(f"a head of {length} bytes")
    head = json.loads(_exactly(stream, length))
    lengths = head.pop("parts") if isinstance(head, dict) else None
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        raise ValueError("a head without the lengths of its parts")
    if sum(lengths) > most_bytes:
        raise ValueError(f"parts of {sum(lengths)} bytes")
    return head, [_exactly(stream, n) for n in lengths]


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data
