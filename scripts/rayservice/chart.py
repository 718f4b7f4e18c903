"""k8s/chart, rendered; the files of configs/ that it carries; and what is made of it for kustomize:
k8s/base is the chart with its own values, k8s/overlays what each of k8s/chart/examples changes of
that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

from scripts.rayservice.patches import patch

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "k8s/chart"
CONFIGS = ROOT / "configs"
CARRIED = ("cluster.yaml", "kubernetes/*.yaml", "monitoring/alerts.yml", "monitoring/dashboards/*")
"""Of CONFIGS, in the chart's folder `configs`: Helm reads no file outside of a chart."""
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
BASE = ROOT / "k8s/base"
OVERLAYS = ROOT / "k8s/overlays"
RELEASE = "meltproof"
Manifest = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dumped(document: object) -> str:
    """As YAML, with keys in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)


def rendered(values: dict[str, Any] | None = None, release: str = RELEASE) -> str:
    """The manifests as Helm would send them, with their comments. Raises helm_python.HelmError."""
    with Chart.load(CHART) as chart:
        files = chart.render(values or {}, name=release, namespace=release)
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    parts = [part.strip("\n") for part in re.split(r"^---$", "\n---\n".join(texts), flags=re.M)]
    return "\n---\n".join(part for part in parts if _has_more_than_comments(part)) + "\n"


def _has_more_than_comments(text: str) -> bool:
    return any(line.strip() and not line.startswith("#") for line in text.splitlines())


def manifests(text: str) -> list[Manifest]:
    """Of a text of several documents, in a fixed order."""
    found = [one for one in yaml.load_all(text, yaml.CSafeLoader) if one is not None]
    return sorted(found, key=_name)


def values_of(example: Path) -> dict[str, Any]:
    """What an example's file says."""
    values: dict[str, Any] = yaml.safe_load(example.read_text())
    return values


def carried() -> dict[Path, str]:
    """The chart's copies of config files, and what each has to hold."""
    found = (path for pattern in CARRIED for path in sorted(CONFIGS.glob(pattern)))
    return {CHART / "configs" / path.relative_to(CONFIGS): path.read_text() for path in found}


def generated() -> dict[Path, str]:
    """Every file of k8s/base and k8s/overlays, and what it has to hold. Of the chart as it is, with
    the copies of config files that are there."""
    base = rendered()
    files = {
        BASE / "meltproof.yaml": _note(None) + base,
        BASE / "kustomization.yaml": _kustomization(None, resources=["meltproof.yaml"]),
    }
    for example in EXAMPLES:
        wanted = manifests(rendered(values_of(example)))
        folder = OVERLAYS / example.stem
        files |= {folder / name: text for name, text in _overlay(example, manifests(base), wanted)}
    return files


def _overlay(example: Path, base: list[Manifest], wanted: list[Manifest]) -> list[tuple[str, str]]:
    before, after = ({_name(one): one for one in each} for each in (base, wanted))
    added = [one for name, one in after.items() if name not in before]
    patches: list[dict[str, Any]] = []
    for name, one in before.items():
        target = {"kind": name[0], "name": name[1]}
        if name not in after:
            gone = {"apiVersion": one["apiVersion"], "kind": name[0], "metadata": {"name": name[1]}}
            patches.append({"patch": dumped({"$patch": "delete", **gone})})
        elif operations := patch(one, after[name]):
            patches.append({"target": target, "patch": dumped(operations)})
    resources = ["../../base", *(["added.yaml"] if added else [])]
    made = [("kustomization.yaml", _kustomization(example, resources=resources, patches=patches))]
    if added:
        made.append(("added.yaml", _note(example) + yaml_documents(added)))
    return made


def yaml_documents(documents: list[Manifest]) -> str:
    """Several documents in one file."""
    return "---\n".join(dumped(one) for one in documents)


def _kustomization(example: Path | None, **fields: Any) -> str:
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    return _note(example) + dumped(head | fields)


def _note(example: Path | None) -> str:
    of = f"k8s/chart/examples/{example.name}" if example else "k8s/chart"
    return (
        f"# Made of {of} by `python -m scripts.rayservice`: put edits into an overlay of yours.\n"
    )


def _name(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
