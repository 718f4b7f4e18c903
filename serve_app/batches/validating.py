"""A batch is accepted whole, or refused with the lines that are wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from jobs.batches import MOST_ERRORS, BatchRecord, NewLine
from jobs.blobs.parts import read_parts
from jobs.request import ImageRequest
from serve_app.batches.ordering import checked_line, context_for, most_line_bytes
from serve_app.orders.app_state import AppState
from serve_app.wire.batches import WrongLine, wrong_line
from serve_app.wire.errors import ApiError, InvalidRequest, NoModel
from serve_app.wire.requests import RequestContext

AT_ONCE = 64
"""Lines that are checked in one go on a thread, some ten milliseconds; the gateway's other threads
have as long a turn between two of them."""
KEPT_AT_ONCE = 512
"""Lines of one transaction."""


@dataclass(frozen=True, slots=True)
class RawLine:
    """Bytes of the input file. data: None for a line that is too long."""

    line: int
    offset: int
    size: int
    data: bytes | None


@dataclass(slots=True)
class Validation:
    """What is known so far. Owned by one call."""

    good: list[NewLine] = field(default_factory=list)
    """Those that are not written down yet."""
    wrong: list[WrongLine] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    """Lines by custom_id."""
    lines: int = 0
    model: str | None = None


async def raw_lines(parts: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[RawLine]:
    """Lines that are not empty, numbered from 1. In memory are a part and a line."""
    rest, offset, number, dropped = b"", 0, 0, 0
    async for part in parts:
        *whole, tail = part.split(b"\n")
        for text in whole:
            number += 1
            data = rest + text
            size = dropped + len(data)
            if data.strip() or dropped:
                kept = data if size <= most_bytes else None
                yield RawLine(number, offset, size, kept)
            offset, rest, dropped = offset + size + 1, b"", 0
        rest += tail
        if dropped or len(rest) > most_bytes:
            dropped, rest = dropped + len(rest), b""
    if rest.strip() or dropped:
        size = dropped + len(rest)
        yield RawLine(number + 1, offset, size, rest if size <= most_bytes else None)


async def validate(state: AppState, batch: BatchRecord) -> BatchRecord:
    """Its lines are rows and it is in progress, or it has failed. Raises BatchLeaseLost,
    LedgerUnavailable, StoreUnavailable, and NoModel while none was announced."""
    ledger, limits = state.ledger, state.config.limits
    file = await ledger.batch_input(batch.id)
    if file is None:
        wrong = InvalidRequest("The input file is gone.", param="input_file_id")
        return await ledger.refuse_batch(batch.id, batch.fence, [wrong_line(None, wrong)])
    found, waiting = Validation(), list[RawLine]()
    most = most_line_bytes(limits, batch.wish.endpoint)
    async for line in raw_lines(read_parts(state.blobs, file.blobs), most):
        waiting.append(line)
        if len(waiting) == AT_ONCE:
            await _check(state, batch, found, waiting)
            waiting = []
        if found.lines > limits.batch_lines or len(found.wrong) >= MOST_ERRORS:
            break
    await _check(state, batch, found, waiting)
    wrong_lines = _whole(found, limits.batch_lines)
    if wrong_lines:
        return await ledger.refuse_batch(batch.id, batch.fence, wrong_lines)
    await ledger.keep_lines(batch.id, batch.fence, found.good)
    images = state.config.tiers[batch.tenant.tier].batch_images
    most_images = 2**62 if images is None else images
    return await ledger.begin_batch(batch.id, batch.fence, found.model, most_images)


def _whole(found: Validation, most: int) -> Sequence[WrongLine]:
    """What is wrong with the file, before what is wrong with its lines."""
    if found.lines > most:
        problem = InvalidRequest(f"The file has more than {most} lines.", code="too_many_lines")
        return [wrong_line(None, problem), *found.wrong][:MOST_ERRORS]
    if not found.lines:
        return [wrong_line(None, InvalidRequest("The file has no lines.", code="empty_file"))]
    return found.wrong[:MOST_ERRORS]


async def _check(
    state: AppState, batch: BatchRecord, found: Validation, lines: Sequence[RawLine]
) -> None:
    context, began = context_for(state, batch), time.monotonic()
    checked = await asyncio.to_thread(_checked, lines, batch, context, found)
    await asyncio.sleep(time.monotonic() - began)
    for line, custom_id, request in checked:
        priced = await state.prices.priced(request)
        new = NewLine(
            line.line, custom_id, line.offset, line.size, priced.n, priced.lane,
            priced.cost_seconds,
        )  # fmt: skip
        found.good.append(new)
    if len(found.good) >= KEPT_AT_ONCE and not found.wrong:
        good, found.good = found.good, []
        await state.ledger.keep_lines(batch.id, batch.fence, good)


def _checked(
    lines: Sequence[RawLine], batch: BatchRecord, context: RequestContext, found: Validation
) -> list[tuple[RawLine, str, ImageRequest]]:
    """Those that are right. Raises NoModel."""
    good = []
    for line in lines:
        found.lines += 1
        try:
            good.append((line, *_right(line, batch, context, found)))
        except NoModel:
            raise
        except ApiError as error:
            found.wrong.append(wrong_line(line.line, error))
    return good


def _right(
    line: RawLine, batch: BatchRecord, context: RequestContext, found: Validation
) -> tuple[str, ImageRequest]:
    """Its custom_id, and what it asks for. Raises ApiError."""
    if line.data is None:
        message = f"This line has {line.size} bytes, which is more than a request may have."
        raise InvalidRequest(message, code="line_too_long")
    parsed, request = checked_line(line.data, batch, context)
    first = found.seen.setdefault(parsed.custom_id, line.line)
    if first != line.line:
        message = f"Invalid value for 'custom_id': line {first} has the same one."
        raise InvalidRequest(message, param="custom_id", code="duplicate_custom_id")
    found.model = found.model or request.model
    return parsed.custom_id, request
