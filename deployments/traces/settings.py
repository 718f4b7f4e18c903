"""Where traces go, and the W3C context that ties the spans of an order together."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """endpoint: of OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; None sends none.
    headers: for it, such as its credentials. share: of the orders, 0..1."""

    endpoint: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    share: float = 1.0


OFF = TraceSettings()


@dataclass(frozen=True, slots=True)
class TraceContext:
    """What https://www.w3.org/TR/trace-context/ carries from one process to the next."""

    trace_id: int
    """128 bits."""
    span_id: int
    """64 bits; of the span above."""
    sampled: bool = True

    @classmethod
    def parse(cls, traceparent: str | None) -> TraceContext | None:
        """Of a `traceparent` header of version 00; None for all else, which begins a new trace."""
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found is None:
            return None
        trace, span, flags = (int(part, 16) for part in found.groups())
        return cls(trace, span, bool(flags & 1))

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"

    def of_image(self, image: str) -> TraceContext:
        """Below the span of that image, `job/index`. Its id follows from that: dispatchers and
        decoders that never meet write spans below the same one."""
        digest = hashlib.sha256(f"{self.trace_id:x}/{image}".encode()).digest()
        return TraceContext(self.trace_id, int.from_bytes(digest[:8], "big") or 1, self.sampled)


def is_sampled(trace_id: int, share: float) -> bool:
    """Whether a trace belongs to that share of all, by its id alone: every service that decides so
    takes the same traces. A client's own flag decides nothing."""
    return trace_id % 2**64 < round(share * 2**64)
