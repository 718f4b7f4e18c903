"""`python -m scripts.rayservice`: configs/cluster.yaml goes into k8s/rayservice.yaml, checked."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from pathlib import Path

import yaml

from scripts.rayservice.crd import VENDORED, load_schema, pack, problems

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "k8s/rayservice.yaml"
POLICIES = ROOT / "k8s/networkpolicy.yaml"
CONFIG = ROOT / "configs/cluster.yaml"
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.rayservice", description=__doc__)
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
