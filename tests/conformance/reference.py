"""What OpenAI's own SDK lists, read from its types: the table must have a row for all of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_type_hints

from openai import types
from openai.types import (
    batch_create_params,
    content_provenance_check_create_params,
    file_create_params,
    file_list_params,
    image_create_variation_params,
    image_edit_params,
    image_generate_params,
    responses,
)
from openai.types.responses import response_create_params, tool_param
from openai.types.responses.response_output_item import ImageGenerationCall
from pydantic import BaseModel

from tests.conformance.row import Row

PARAMETERS = {
    "generations": image_generate_params.ImageGenerateParamsStreaming,
    "edits": image_edit_params.ImageEditParamsStreaming,
    "responses": response_create_params.ResponseCreateParamsStreaming,
    "responses tool": tool_param.ImageGeneration,
    "variations": image_create_variation_params.ImageCreateVariationParams,
    "files": file_create_params.FileCreateParams,
    "files list": file_list_params.FileListParams,
    "batches": batch_create_params.BatchCreateParams,
    "provenance": content_provenance_check_create_params.ContentProvenanceCheckCreateParams,
}
ANSWERS: dict[str, tuple[type[BaseModel], ...]] = {
    "generations": (types.ImagesResponse,),
    "edits": (types.ImagesResponse,),
    "files": (types.FileObject, types.FileDeleted),
    "batches": (types.Batch,),
    "provenance": (types.ContentProvenanceCheck,),
    "models": (types.Model,),
}
EVENTS: dict[str, tuple[type[BaseModel], ...]] = {
    "generations": (types.ImageGenPartialImageEvent, types.ImageGenCompletedEvent),
    "edits": (types.ImageEditPartialImageEvent, types.ImageEditCompletedEvent),
}
FLAT_ANSWERS: dict[str, type[BaseModel]] = {
    "responses": responses.Response,
    "responses call": ImageGenerationCall,
}
"""Of those the own fields alone: below are those of all tools that OpenAI has."""
FLAT_EVENTS: tuple[type[BaseModel], ...] = (
    responses.ResponseCreatedEvent,
    responses.ResponseQueuedEvent,
    responses.ResponseInProgressEvent,
    responses.ResponseOutputItemAddedEvent,
    responses.ResponseImageGenCallInProgressEvent,
    responses.ResponseImageGenCallGeneratingEvent,
    responses.ResponseImageGenCallPartialImageEvent,
    responses.ResponseImageGenCallCompletedEvent,
    responses.ResponseOutputItemDoneEvent,
    responses.ResponseCompletedEvent,
    responses.ResponseFailedEvent,
)
UNLISTED = ("responses",)
"""Parameters of these have values that are about language models."""
Entry = tuple[str, str, str, str]
"""where, kind, name, and one of its listed values or nothing."""
WHOLE = {"svg_usage"}
"""Objects that we never send: one row for all of it."""


def entries() -> set[Entry]:
    """Every parameter with its listed values, every field of answers and of events."""
    return {*_parameters(), *_fields(), *_flat_fields()}


def missing(rows: Iterable[Row]) -> list[Entry]:
    """What the reference has and no row is about."""
    held = {
        (row.where, row.kind, name.strip(), value)
        for row in rows
        for name in row.name.split(",")
        for value in ("", *row.values)
    }
    return sorted(entries() - held)


def _parameters() -> Iterator[Entry]:
    for where, params in PARAMETERS.items():
        for name, hint in get_type_hints(params).items():
            yield where, "parameter", name, ""
            if (
                name != "model" and where not in UNLISTED
            ):  # lists OpenAI's models, which are not ours
                for value in _literals(hint):
                    yield where, "parameter", name, value


def _fields() -> Iterator[Entry]:
    for where, models in ANSWERS.items():
        for model in models:
            for name in _paths(model):
                yield where, "response", name, ""
    for where, models in EVENTS.items():
        for model in models:
            (kind,) = _literals(model.model_fields["type"].annotation)
            for name in _paths(model):
                yield where, "event", f"{kind}.{name}", ""


def _flat_fields() -> Iterator[Entry]:
    for where, model in FLAT_ANSWERS.items():
        for name in model.model_fields:
            yield where, "response", name, ""
    for model in FLAT_EVENTS:
        (kind,) = _literals(model.model_fields["type"].annotation)
        for name in model.model_fields:
            yield "responses", "event", f"{kind}.{name}", ""


def _paths(model: type[BaseModel], below: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{below}{name}"
        if name not in WHOLE:
            for inner in _models(field.annotation):
                yield from _paths(inner, f"{below}{name}.")


def _models(hint: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(hint) and issubclass(hint, BaseModel):
        yield hint
    for inner in get_args(hint):
        yield from _models(inner)


def _literals(hint: Any) -> Iterator[str]:
    for inner in get_args(hint):
        if isinstance(inner, str) and getattr(hint, "__origin__", None) is Literal:
            yield inner
        elif not isinstance(inner, str | bool):
            yield from _literals(inner)
