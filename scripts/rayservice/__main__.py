"""`python -m scripts.rayservice`: configs/cluster.yaml goes into k8s/rayservice.yaml, checked.

KubeRay's RayService schema is made strict: what its CRD does not name is refused, where a cluster
would drop unknown fields without a word. What only a cluster can check is not checked: CEL rules
(three, on fields that are not set here) and the operator's own validation.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "k8s/rayservice.yaml"
POLICIES = ROOT / "k8s/networkpolicy.yaml"
CONFIG = ROOT / "configs/cluster.yaml"
VENDORED = Path(__file__).with_name("rayservice-crd-v1.7.0.json.xz")
"""The v1 schema of KubeRay 1.7.0's ray.io_rayservices.yaml without descriptions; Apache-2.0."""
_BLOCK = re.compile(r"^( *)serveConfigV2: \|\n(?:(?:\1 +.*)?\n)*", re.MULTILINE)


def generated(manifest: str, config: str) -> str:
    """The manifest with that config in its serveConfigV2."""

    def block(match: re.Match[str]) -> str:
        indent = match[1]
        return f"{indent}serveConfigV2: |\n{textwrap.indent(config, f'{indent}  ')}"

    made, count = _BLOCK.subn(block, manifest)
    if count != 1:
        raise ValueError(f"{MANIFEST}: wanted one `serveConfigV2: |`, found {count}")
    return made


def load_schema(path: Path = VENDORED) -> dict[str, Any]:
    """The schema of version v1, from a CRD in YAML or from the vendored copy."""
    if path.suffix == ".xz":
        schema: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
        return schema
    crd = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    [schema] = [
        version["schema"]["openAPIV3Schema"]
        for version in crd["spec"]["versions"]
        if version["name"] == "v1"
    ]
    return without_descriptions(schema)


def pack(crd: Path, to: Path = VENDORED) -> None:
    """Vendor another version of the CRD."""
    schema = json.dumps(load_schema(crd), sort_keys=True, separators=(",", ":"))
    to.write_bytes(lzma.compress(schema.encode(), preset=9 | lzma.PRESET_EXTREME))


def problems(manifest: object, schema: dict[str, Any]) -> list[str]:
    """`spec.rayClusterConfig.headGroupSpec: 'x' was unexpected`, for everything that is wrong."""
    policy = isinstance(manifest, dict) and manifest.get("kind") == "NetworkPolicy"
    whole = network_policy(schema) if policy else strict(schema, root=True)
    validator = jsonschema.Draft202012Validator(whole)
    return [
        f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message[:300]}"
        for error in sorted(validator.iter_errors(manifest), key=lambda e: str(e.absolute_path))
    ]


def network_policy(schema: dict[str, Any]) -> dict[str, Any]:
    """The strict schema of Kubernetes' own NetworkPolicy (networking.k8s.io/v1), whose rules
    KubeRay's schema holds, too."""
    cluster = strict(schema)["properties"]["spec"]["properties"]["rayClusterConfig"]
    rules = cluster["properties"]["networkPolicy"]["properties"]["head"]["properties"]
    peer = rules["ingressRules"]["items"]["properties"]["from"]["items"]
    kinds = {"type": "array", "items": {"enum": ["Ingress", "Egress"]}, "minItems": 1}
    spec = {
        "podSelector": peer["properties"]["podSelector"],
        "policyTypes": kinds,
        "ingress": rules["ingressRules"],
        "egress": rules["egressRules"],
    }
    return _object(
        apiVersion={"const": "networking.k8s.io/v1"},
        kind={"const": "NetworkPolicy"},
        metadata={"type": "object", "required": ["name"]},
        spec={**_object(**spec), "required": ["podSelector", "policyTypes"]},
    )


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def strict(schema: dict[str, Any], *, root: bool = False) -> dict[str, Any]:
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
        return {"type": ["integer", "string"], **_only(made, "pattern")}
    keeps = made.get("x-kubernetes-preserve-unknown-fields", False)
    if made.get("type") == "object" and "additionalProperties" not in made and not keeps:
        made["additionalProperties"] = False
    if root:  # these two are the API server's own
        made["properties"] |= {
            "apiVersion": {"const": "ray.io/v1"},
            "kind": {"const": "RayService"},
        }
        made["properties"]["metadata"] = {"type": "object", "required": ["name"]}
        made["required"] = ["apiVersion", "kind", "metadata", "spec"]
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


def _only(schema: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: schema[key] for key in keys if key in schema}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.rayservice", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="only check this manifest")
    parser.add_argument("--crd", type=Path, default=VENDORED, metavar="FILE", help="another CRD")
    parser.add_argument("--vendor", action="store_true", help="keep the one of --crd for good")
    options = parser.parse_args()
    if options.vendor:
        pack(options.crd)
    if not options.check:
        MANIFEST.write_text(generated(MANIFEST.read_text(), CONFIG.read_text()))
    schema, wrong = load_schema(options.crd), False
    for path in [options.check] if options.check else [MANIFEST, POLICIES]:
        documents = yaml.safe_load_all(path.read_text())
        found = [one for document in documents for one in problems(document, schema)]
        print("\n".join(f"{path}: {one}" for one in found) or f"{path}: ok")
        wrong = wrong or bool(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
