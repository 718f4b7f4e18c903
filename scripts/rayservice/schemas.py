"""Manifests against the schemas of their kinds, made strict: what a schema does not name is
refused, where a cluster would drop it without a word.

Kinds of Kubernetes itself come from the package kubernetes-validate, those of others from the CRDs
in schemas/, without their descriptions (NOTICE).
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

FOLDER = Path(__file__).with_name("schemas")
KUBERNETES = "1.34"
RAY_SERVICE = FOLDER / "RayService-kuberay-1.7.0.json.xz"
CRDS = {
    ("ray.io/v1", "RayService"): RAY_SERVICE,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): FOLDER / "HTTPRoute-2026-08.json.xz",
    ("monitoring.coreos.com/v1", "PodMonitor"): FOLDER / "PodMonitor-0.93.0.json.xz",
    ("monitoring.coreos.com/v1", "PrometheusRule"): FOLDER / "PrometheusRule-0.93.0.json.xz",
}
COMPOSE = FOLDER / "compose-spec-2026-06.json.xz"
Schema = dict[str, Any]


@cache
def load_schema(path: Path = RAY_SERVICE) -> Schema:
    """The schema of version v1, from a CRD in YAML or from a packed copy."""
    if path.suffix == ".xz":
        schema: Schema = json.loads(lzma.decompress(path.read_bytes()))
        return schema
    crd = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    [schema] = [
        version["schema"]["openAPIV3Schema"]
        for version in crd["spec"]["versions"]
        if version["name"] == "v1"
    ]
    return without_descriptions(schema)


def pack(source: Path, to: Path) -> None:
    """Keep a copy of the schema of a CRD, or of a JSON schema, for good."""
    if source.suffix == ".json":
        schema = without_descriptions(json.loads(source.read_text(encoding="utf-8")))
    else:
        schema = load_schema(source)
    text = json.dumps(schema, sort_keys=True, separators=(",", ":"))
    to.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def problems(manifest: object, ray_service: Path = RAY_SERVICE) -> list[str]:
    """`spec.rayClusterConfig.headGroupSpec: 'x' was unexpected`, for everything that is wrong; of
    Kubernetes' own kinds for the first. ray_service: another CRD of KubeRay's."""
    if not isinstance(manifest, dict) or not {"apiVersion", "kind"} <= manifest.keys():
        return ["apiVersion, kind: are missing"]
    kind = (str(manifest["apiVersion"]), str(manifest["kind"]))
    crds = CRDS | {("ray.io/v1", "RayService"): ray_service}
    if kind not in crds:
        return _of_kubernetes(manifest)
    schema = strict(load_schema(crds[kind]))
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return _violations(jsonschema.Draft202012Validator(schema), manifest)


def compose_problems(document: object) -> list[str]:
    """The same of a compose file."""
    return _violations(jsonschema.Draft7Validator(load_schema(COMPOSE)), document)


def _violations(validator: Any, document: object) -> list[str]:
    return [
        _line(error)
        for error in sorted(validator.iter_errors(document), key=lambda e: str(e.absolute_path))
    ]


def _line(error: jsonschema.ValidationError) -> str:
    return f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message[:300]}"


def _of_kubernetes(manifest: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(str(part) for part in error.path)}: {error.message[:300]}"]
    except kubernetes_validate.SchemaNotFoundError:
        kind = f"{manifest['kind']} of {manifest['apiVersion']}"
        return [f"kind: there is no {kind} in Kubernetes {KUBERNETES}"]
    return []


def strict(schema: Schema) -> Schema:
    """The OpenAPI schema as JSON Schema in which unknown fields are errors."""
    made = dict(schema)
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = strict(made[key])
    if "properties" in made:
        made["properties"] = {name: strict(inner) for name, inner in made["properties"].items()}
    for key in ("allOf", "anyOf", "oneOf"):
        made.pop(key, None)  # they say again what int-or-string says
    if made.pop("x-kubernetes-int-or-string", False):
        return {"type": ["integer", "string"]} | {
            key: made[key] for key in ("pattern",) if key in made
        }
    keeps = made.get("x-kubernetes-preserve-unknown-fields", False)
    if made.get("type") == "object" and "additionalProperties" not in made and not keeps:
        made["additionalProperties"] = False
    if made.pop("nullable", False):
        made["type"] = [made["type"], "null"]
    return made


def without_descriptions(node: Any) -> Any:
    """The same schema in a fifth of the bytes; a field called `description` stays."""
    if isinstance(node, list):
        return [without_descriptions(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {
        key: without_descriptions(value)
        for key, value in node.items()
        if not (key == "description" and isinstance(value, str))
    }
