"""What a batch ends with: a file of answers and a file of errors, a line for each request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic_core import to_json

from jobs.batches import BatchFiles, BatchLine, BatchRecord, FinishedFile, LineState
from jobs.blobs.parts import PartsWriter, read_range
from jobs.blobs.store import BlobMissing
from jobs.files import INPUT, StoredFile, new_file_id
from jobs.job import Job
from serve_app.batches.ordering import wants_url
from serve_app.delivery.pieces import HOLE, Pace, Part, Pieces, filled
from serve_app.orders.app_state import AppState
from serve_app.orders.pictures import finished, picture_part, signed_url, without
from serve_app.wire import answers
from serve_app.wire.batches import parse_line, result, undone
from serve_app.wire.errors import ApiError, ImageExpired, ImageFailed
from serve_app.wire.job_problems import job_problem

PAGE = 50
"""Lines that are read from the ledger at once."""
HIDDEN_SECONDS = 172_800.0
"""After which files are deleted that a gateway was stopped in writing."""
_UNPACED = 1e12


@dataclass(slots=True)
class _File:
    """One that is being written. Owned by one call."""

    writer: PartsWriter
    id: str

    async def finished(self) -> FinishedFile | None:
        """None: nothing was written."""
        blobs = await self.writer.close()
        return FinishedFile(self.id, self.writer.size, blobs) if blobs else None


async def write_files(state: AppState, batch: BatchRecord) -> BatchFiles:
    """Both files, new ones at every call. Raises LedgerUnavailable and OSError."""
    output, errors = await _new_file(state, batch), await _new_file(state, batch)
    tokens_in = tokens_out = last = 0
    while lines := await state.ledger.ended_lines(batch.id, last, PAGE):
        ids = [line.job_id for line in lines if line.job_id is not None]
        jobs = {job.id: job for job in await state.ledger.get_many(ids)} if ids else {}
        for line in lines:
            job = None if line.job_id is None else jobs.get(line.job_id)
            answer = await _answer(state, batch, line, job)
            file = output if answer.good else errors
            for part in (*answer.parts, b"\n"):
                await _copy(state, file.writer, part)
            tokens_in, tokens_out = tokens_in + answer.tokens[0], tokens_out + answer.tokens[1]
        last = lines[-1].line
    return BatchFiles(await output.finished(), await errors.finished(), tokens_in, tokens_out)


async def _new_file(state: AppState, batch: BatchRecord) -> _File:
    """Its row is hidden, and there before its blobs."""
    file_id = new_file_id()
    file = StoredFile(
        id=file_id, tenant=batch.tenant.id, purpose=INPUT, filename="", bytes=0, width=0, height=0,
        blobs=(), created_at=0.0, expires_at=HIDDEN_SECONDS,
    )  # fmt: skip
    await state.ledger.add_file(file)
    return _File(PartsWriter(state.blobs, file_id), file_id)


async def _copy(state: AppState, writer: PartsWriter, part: Part) -> None:
    if isinstance(part, bytes):
        await writer.write(part)
        return
    async for chunk in Pieces(state.blobs, [part], Pace(_UNPACED)).chunks():
        await writer.write(chunk)


@dataclass(frozen=True, slots=True)
class _Result:
    """One line of a file. tokens: that came in, and out."""

    parts: Sequence[Part]
    good: bool = False
    tokens: tuple[int, int] = (0, 0)


async def _answer(state: AppState, batch: BatchRecord, line: BatchLine, job: Job | None) -> _Result:
    if line.error is not None:
        said = json.loads(line.error)
        return _Result([to_json(result(batch.id, line, said["status"], said["body"]))])
    if line.state in (LineState.CANCELLED, LineState.EXPIRED):
        return _Result([to_json(undone(batch.id, line))])
    if job is None:
        return _refused(batch, line, ImageExpired())
    return await _pictures(state, batch, line, job)


def _refused(batch: BatchRecord, line: BatchLine, problem: ApiError) -> _Result:
    return _Result([to_json(result(batch.id, line, problem.status, problem.envelope()))])


async def _pictures(state: AppState, batch: BatchRecord, line: BatchLine, job: Job) -> _Result:
    found: dict[int, Part] = {}
    contents: Mapping[int, answers.Content]
    if root := await _root_for_urls(state, batch, line):
        contents = {r.index: {"url": signed_url(state, root, job, r)} for r in finished(job)}
    else:
        for render in finished(job):
            with suppress(BlobMissing):
                found[render.index] = await picture_part(state, render)
        contents = {index: {"b64_json": HOLE} for index in found}
        job = without(job, {render.index for render in job.renders} - contents.keys())
    if not contents:
        return _refused(batch, line, job_problem(job) or ImageFailed())
    body = answers.images_response(job, contents, state.models.cells(job.request.model))
    text = to_json(result(batch.id, line, 200, body))
    parts = filled(text, [found[index] for index in sorted(found)])
    usage = body["usage"]
    return _Result(parts, True, (usage["input_tokens"], usage["output_tokens"]))


async def _root_for_urls(state: AppState, batch: BatchRecord, line: BatchLine) -> str | None:
    """Where URLs begin, for a line that wants them."""
    if (root := state.config.gateway.public_url) is None:
        return None
    file = await state.ledger.batch_input(batch.id)
    if file is None:
        return None
    raw = await read_range(state.blobs, file.blobs, file.bytes, line.offset, line.size)
    parsed = parse_line(raw, batch.wish.endpoint, state.config.limits.body_bytes)
    return root.rstrip("/") if wants_url(parsed) else None
