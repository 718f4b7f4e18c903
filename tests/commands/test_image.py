"""The container image: built from the Dockerfile, and run as a pod runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image as Picture

from scripts.image import build
from scripts.image.__main__ import CONFIG, PICTURE, serve
from scripts.image.container import Container, head
from scripts.image.sbom import sbom
from tests.stages.tools import programs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def image() -> build.Image:
    """Built on Debian's own packages, from wheels that pip finds here."""
    programs("buildah", "podman", "runc", "mmdebstrap")
    return build.build("cpu", build.local_base(), build.wheels())


@pytest.fixture(scope="module")
def container(image: build.Image) -> Iterator[Container]:
    """A head in it, whose probes for raylet and GCS answer."""
    with head(image.name, CONFIG) as running:
        yield running


def test_it_serves_with_a_read_only_root_as_a_user_without_capabilities(
    container: Container, tmp_path: Path
) -> None:
    serve(container)
    container.run("meltproof", "generate", "a red fox", "-o", PICTURE)
    container.fetch(PICTURE, tmp_path / "fox.png")
    with Picture.open(tmp_path / "fox.png") as picture:
        assert picture.size == (512, 512)
    assert container.run("id", "-u").strip() == "1000"
    assert "CapEff:\t0000000000000000" in container.run("cat", "/proc/self/status")
    with pytest.raises(RuntimeError, match="Read-only file system"):
        container.run("touch", "/app/written")
    page = container.run("wget", "-q", "-O-", "http://127.0.0.1:8000/")
    assert "<title>" in page


def test_it_carries_what_runs_and_nothing_else(container: Container) -> None:
    there = set(container.run("ls", "-A", "/app").split())
    assert {"serve_app", "engine", "studio", "configs", "weights"} <= there
    assert not there & {"tests", "scripts", "docs", ".git", "var", ".venv"}


def test_its_sbom_names_debian_and_python_packages(image: build.Image) -> None:
    bom = json.loads(sbom(image.name, datetime(2026, 1, 1, tzinfo=UTC)))
    found = {component["purl"].split("@")[0] for component in bom["components"]}
    assert {"pkg:deb/debian/libc6", "pkg:pypi/torch", "pkg:pypi/ray"} <= found
