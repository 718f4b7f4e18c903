"""Rows to records and back. Knows the order of the columns that statements.py selects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from jobs.job import HELD, Job, JobState, Render, RenderState, job_state
from jobs.request import ImageRequest, ResponseOrder, SourceImage, WeightedLora

_FIELDS = tuple(field.name for field in fields(ImageRequest))
_SOURCE_FIELDS = frozenset(field.name for field in fields(SourceImage))
_LORA_FIELDS = frozenset(field.name for field in fields(WeightedLora))
_RESPONSE_FIELDS = frozenset(field.name for field in fields(ResponseOrder))
_KNOWN_FIELDS = frozenset(_FIELDS)
_KEYS_WITHOUT_NUL = ("lane", "tenant", "tier", "idempotency_key", "body_hash")


class Unreadable(ValueError):
    """A newer version wrote this row, and this one does not understand it."""


def request_to_json(request: ImageRequest) -> str:
    """ValueError, naming the field, for text that no database stores faithfully. Without what is as
    by default, so that an older version meets a new field only where it is used."""
    for name in _FIELDS:
        value = getattr(request, name)
        if not isinstance(value, str):
            continue
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name}: has a lone surrogate, which is not text") from None
        if name in _KEYS_WITHOUT_NUL and "\0" in value:
            raise ValueError(f"{name}: must not contain NUL")
    values = _used(request)
    if request.source is not None:
        values["source"] = _used(request.source)
    if request.loras:
        values["loras"] = [_used(lora) for lora in request.loras]
    if request.response is not None:
        values["response"] = _used(request.response)
    return json.dumps(values, ensure_ascii=False)


def _used(record: ImageRequest | SourceImage | WeightedLora | ResponseOrder) -> dict[str, Any]:
    values = ((field, getattr(record, field.name)) for field in fields(record))
    return {field.name: value for field, value in values if value != field.default}


@lru_cache(maxsize=256)
def request_from_json(stored: str) -> ImageRequest:
    """Without the fields of newer versions. Raises Unreadable. Cached: a job is read many times
    while it is watched, and its request never changes."""
    try:
        values = _known(json.loads(stored), _KNOWN_FIELDS)
        if values.get("source") is not None:
            source = _known(values["source"], _SOURCE_FIELDS)
            source["references"] = tuple(source.get("references", ()))
            values["source"] = SourceImage(**source)
        if loras := values.get("loras"):
            values["loras"] = tuple(WeightedLora(**_known(lora, _LORA_FIELDS)) for lora in loras)
        if values.get("response") is not None:
            values["response"] = ResponseOrder(**_known(values["response"], _RESPONSE_FIELDS))
        return ImageRequest(**values)
    except (AttributeError, TypeError, ValueError) as error:
        raise Unreadable(f"its request: {error}") from error


def _known(values: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def model_of(stored: str) -> str:
    """The model of a stored request, whichever version wrote it."""
    return str(json.loads(stored).get("model"))


def storable(reason: str) -> str:
    """Foreign text, whatever is in it, as every database takes it."""
    return reason.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def dump(values: Sequence[Any]) -> str:
    """A tuple as a JSON list; the empty one, by far the most frequent, without the encoder."""
    return json.dumps(values) if values else "[]"


def load(stored: str) -> tuple[Any, ...]:
    """The inverse of `dump`."""
    return () if stored == "[]" else tuple(json.loads(stored))


def render_from_row(row: Sequence[Any]) -> Render:
    """A row of statements.RENDER_COLUMNS (without the leading job_id)."""
    (
        index, state, pass_no, attempts, previews, blob, stage, categories, error, checkpoint,
        checkpoint_pass, life, gpu_seconds, joules, revised_prompt, redrawn,
    ) = row  # fmt: skip
    return Render(
        index=index,
        state=RenderState(state),
        pass_no=pass_no,
        checkpoint=checkpoint,
        checkpoint_pass=checkpoint_pass,
        previews=load(previews),
        blob=blob,
        categories=load(categories),
        stage=stage,
        error=error,
        attempts=attempts,
        life=life,
        gpu_seconds=gpu_seconds,
        joules=joules,
        revised_prompt=revised_prompt,
        redrawn=redrawn,
    )


def job_from_rows(row: Sequence[Any], renders: Iterable[Sequence[Any]]) -> Job:
    """A row of statements.JOB_COLUMNS and those of the job's images in order, which say how far it
    is. Raises Unreadable."""
    try:
        return _job(row, tuple(render_from_row(render) for render in renders))
    except (TypeError, ValueError) as error:
        raise Unreadable(str(error)) from error


def _job(row: Sequence[Any], images: tuple[Render, ...]) -> Job:
    (
        job_id, state, fence, attempts, cancel_requested, created_at, started_at, finished_at,
        deadline_at, watched_until, errors, request,
        preemptions, worker,
    ) = row  # fmt: skip
    return Job(
        id=job_id,
        request=request_from_json(request),
        state=_state(JobState(state), images),
        renders=images,
        fence=fence,
        worker=worker,
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        deadline_at=deadline_at,
        watched_until=watched_until,
        cancel_requested=bool(cancel_requested),
        attempts=attempts,
        errors=load(errors),
        preemptions=preemptions,
    )


def _state(stored: JobState, images: Iterable[Render]) -> JobState:
    return job_state((r.state for r in images), leased=True) if stored in HELD else stored


def stored_state(job: Job) -> JobState:
    """What `job_from_rows` makes that job's state of, beside its images."""
    return JobState.LEASED if job.state in HELD else job.state
