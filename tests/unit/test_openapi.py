"""The OpenAPI document is about the routes that the gateway has, and refers to what is in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator
from starlette.routing import Route

from engine.capabilities import capabilities
from serve_app.api import ROUTERS, routes
from serve_app.wire.models import Models, ServedModel, announcement
from serve_app.wire.openapi import document
from tests.stages.http_stage import config

MODELS = Models((ServedModel(announcement(config()), capabilities("paced", {})),))
DOCUMENT = document(routes(), config(), MODELS, "")
METHODS = {"get", "post", "put", "patch", "delete"}
NOT_OF_THE_API = {"/", "/operator"}


def served() -> Iterator[tuple[str, str]]:
    for route in (route for router in ROUTERS for route in router.routes):
        assert isinstance(route, Route)
        for method in {name.lower() for name in route.methods or ()} & METHODS:
            path = re.sub(r"{(\w+):\w+}", r"{\1}", route.path)
            if path not in NOT_OF_THE_API:
                yield method, path


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    for one in part if isinstance(part, list) else ():
        yield from objects(one)


def test_every_route_is_described_and_nothing_else() -> None:
    assert sorted(served()) == sorted((method, path) for method, path, _ in operations())


def test_a_negative_prompt_is_as_long_as_the_family_can_read() -> None:
    (model,) = MODELS.all
    told = Models((replace(model, can=replace(model.can, negative_prompt=True)),))
    most = {}
    for document_ in (DOCUMENT, document(routes(), config(), told, "")):
        body = document_["paths"]["/v1/images/generations"]["post"]["requestBody"]
        schema = body["content"]["application/json"]["schema"]["properties"]
        most[schema["negative_prompt"]["anyOf"][0]["maxLength"]] = schema["prompt"]["maxLength"]
    assert most == {0: 32_000, 32_000: 32_000}


def test_loras_are_those_that_the_models_have() -> None:
    (model,) = MODELS.all
    drawing = Models((replace(model, can=replace(model.can, loras=("ink", "oil"), loras_max=2)),))
    has, none = (
        document_["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
        for document_ in (document(routes(), config(), drawing, ""), DOCUMENT)
    )
    in_json, in_form = (
        has[kind]["schema"]["properties"]["loras"]
        for kind in ("application/json", "multipart/form-data")
    )
    listed = in_json["anyOf"][0]
    assert (listed["type"], listed["maxItems"]) == ("array", 2)
    assert listed["items"]["properties"]["name"] == {"type": "string", "enum": ["ink", "oil"]}
    assert listed["items"]["required"] == ["name"]
    assert listed["items"]["properties"]["weight"]["maximum"] == 10.0
    assert (in_form["type"], in_form["contentSchema"]) == ("string", listed)
    assert "maxLength" not in in_form
    without = none["application/json"]["schema"]["properties"]["loras"]["anyOf"][0]
    assert without["maxItems"] == 0
    assert none["multipart/form-data"]["schema"]["properties"]["loras"]["maxLength"] == 0


def test_a_field_that_is_empty_in_a_form_is_as_one_that_is_not_there() -> None:
    body = DOCUMENT["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
    fields = body["multipart/form-data"]["schema"]["properties"]
    takes = {name for name, field in fields.items() if Draft202012Validator(field).is_valid("")}
    assert {"size", "quality", "model", "seed", "stream", "loras"} < takes
    assert fields.keys() - takes == {"prompt", "image"}


def test_it_is_openapi() -> None:
    assert OpenAPI.model_validate(DOCUMENT).paths


def test_every_reference_and_link_leads_somewhere() -> None:
    schemas = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert {one["$ref"] for one in objects(DOCUMENT) if "$ref" in one} == schemas
    names = [one["operationId"] for _, _, one in operations()]
    assert len(names) == len(set(names))
    assert {one["operationId"] for one in objects(DOCUMENT) if "operationId" in one} == set(names)
