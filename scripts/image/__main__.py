"""Build the image, list what is in it, run it as a pod runs it, and draw a picture in it.

Needs buildah, podman and runc, and mmdebstrap where no base is named. Leaves out/image/: the SBOM
and the picture.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path

from scripts.image.build import ROOT, Image, build, local_base, wheels
from scripts.image.container import PROBES, Container, head
from scripts.image.sbom import sbom
from scripts.report import rich_table

OUT = ROOT / "out" / "image"
CONFIG = Path(__file__).with_name("config.yaml")
PICTURE = "/tmp/first.png"


def main() -> None:
    """Print a table, and the figures as one JSON object."""
    parser = argparse.ArgumentParser(prog="make image", description=__doc__)
    parser.add_argument("--base", help="with Python (default: made from Debian's packages)")
    parser.add_argument("--target", default="cpu", help="of the Dockerfile (default cpu)")
    parser.add_argument("--online", action="store_true", help="let pip in the build ask its index")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    base = options.base or local_base()
    image = build(options.target, base, None if options.online else wheels())
    build_seconds = time.monotonic() - began
    (OUT / "sbom.cdx.json").write_text(sbom(image.name, datetime.now(UTC)))
    figures = {
        "build_s": round(build_seconds, 1),
        "image_mb": round(image.mebibytes),
        "first_picture_s": round(first_picture(image, OUT / "first.png"), 1),
    }
    rich_table(image.name, ("figure", "value"), figures.items())
    print(json.dumps(figures))


def first_picture(image: Image, to: Path) -> float:
    """Seconds from starting the container to a picture in it, which is copied out."""
    began = time.monotonic()
    with head(image.name, CONFIG) as container:
        serve(container)
        container.run("meltproof", "generate", "a red fox", "-o", PICTURE)
        seconds = time.monotonic() - began
        container.fetch(PICTURE, to)
    return seconds


def serve(container: Container) -> None:
    """Deploy the config file, and wait until every probe answers."""
    container.run("meltproof", "apply", "/etc/meltproof/config.yaml", "--yes")
    container.wait_for(" && ".join(PROBES.values()))


if __name__ == "__main__":
    main()
