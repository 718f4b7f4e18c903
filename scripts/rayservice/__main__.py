"""`python -m scripts.rayservice`: k8s/base and k8s/overlays are made of k8s/chart, and checked;
the chart's own copies of configs/ are made anew.

Types, enums, required and unknown fields, and the rules of CRDs. What only a cluster can check is
not: KubeRay's own validation, and whether pods start.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from scripts.rayservice.chart import BASE, CHART, OVERLAYS, ROOT, carried, generated
from scripts.rayservice.rules import broken_rules
from scripts.rayservice.schemas import CRDS, RAY_SERVICE, load_schema, pack, problems


def everything_wrong(manifest: object, ray_service: Path = RAY_SERVICE) -> list[str]:
    """What schema and rules of its kind say against a manifest."""
    if found := problems(manifest, ray_service):
        return found
    assert isinstance(manifest, dict)
    kind = (manifest["apiVersion"], manifest["kind"])
    return broken_rules(manifest, load_schema(CRDS[kind])) if kind in CRDS else []


def write() -> list[Path]:
    """Make all files anew; which there are. What is no longer made goes."""
    _replace(carried(), CHART / "configs")
    files = generated()
    _replace(files, BASE, OVERLAYS)
    return [path for path in files if path.name != "kustomization.yaml"]


def _replace(files: dict[Path, str], *folders: Path) -> None:
    """These are all the files of the folders."""
    for folder in folders:
        for path in folder.rglob("*.*"):
            if path.is_file() and path not in files:
                path.unlink()
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.rayservice", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="only check these manifests")
    parser.add_argument("--crd", type=Path, default=RAY_SERVICE, metavar="FILE", help="another CRD")
    parser.add_argument(
        "--vendor", nargs=2, type=Path, metavar=("SOURCE", "TO"), help="keep a CRD's schema packed"
    )
    options = parser.parse_args()
    if options.vendor:
        pack(*options.vendor)
        return 0
    wrong = False
    for path in [options.check] if options.check else write():
        documents = [one for one in yaml.safe_load_all(path.read_text()) if one is not None]
        found = [
            f"{one.get('kind')} {one.get('metadata', {}).get('name')}: {problem}"
            if isinstance(one, dict)
            else problem
            for one in documents
            for problem in everything_wrong(one, options.crd)
        ]
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        print("\n".join(f"{name}: {one}" for one in found) or f"{name}: ok")
        wrong = wrong or bool(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
