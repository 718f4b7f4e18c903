"""Every example runs as it stands, but for the address, and leaves the pictures it names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.conformance.clients import NODE, NodeSdk
from tests.page.pipeline import CONFIG, Pipeline
from tests.stages.webhook_receiver import NETWORKS

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = {
    "01_openai_client.py": {"fox.png"},
    "02_stream_previews.py": {"strawberry.png", "strawberry-preview-0.png"},
    "03_async_job.py": {"cake-0.png", "cake-1.png"},
    "04_edit_with_a_mask.py": {"apple.png", "apple-edited.png"},
    "05_tweaks_and_lineage.py": {f"strawberry-{step}.png" for step in range(1, 5)},
    "06_files.py": {"orange.png", "apple.png"},
    "07_retries.py": {"cake.png"},
    "08_node_client.mjs": {"penguin.png", "penguin-preview-0.png", "penguin-edited.png"},
    "11_webhook_receiver.py": {"fox.png"},
    "12_batch.py": {"pear.png", "plum.png"},
    "09_curl.sh": {"apple.png", "penguin.png", "green-apple.png", "apple-on-yellow.png"},
    "10_conversation.py": {f"apple-{turn}.png" for turn in range(1, 5)},
}
RUN = {".py": sys.executable, ".mjs": "node", ".sh": "bash"}
ELSEWHERE = {"haproxy.cfg", "launch-day.yaml", "litellm.yaml", "nginx.conf", "temporal"}
"""Run by the tests of the simulator, of conformance, of proxies and of Temporal."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    pipeline = Pipeline(tmp_path_factory.mktemp("service"), {**CONFIG, "webhooks": NETWORKS})
    yield pipeline
    pipeline.close()


def test_no_example_is_forgotten() -> None:
    found = {path.name for path in EXAMPLES.iterdir()} - {"__pycache__"}
    assert found == PICTURES.keys() | ELSEWHERE


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_an_example_leaves_its_pictures(name: str, service: Pipeline, tmp_path: Path) -> None:
    _require(_missing(name), name.endswith(".mjs") and "WITHOUT_NODE" in os.environ)
    url = service.url.rstrip("/")
    source = (EXAMPLES / name).read_text().replace("http://127.0.0.1:8000", url)
    script, pictures = tmp_path / name, tmp_path / "pictures"
    script.write_text(source)
    pictures.mkdir()
    if name.endswith(".mjs"):  # as after `npm install openai` beside it
        (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    subprocess.run([RUN[script.suffix], str(script)], cwd=pictures, check=True, timeout=120)
    assert PICTURES[name] <= {path.name for path in pictures.iterdir()}
    for path in pictures.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.format == "PNG"


def _missing(name: str) -> str | None:
    if name.endswith(".mjs"):
        return NodeSdk.missing()
    if name.endswith(".sh") and shutil.which("curl") is None:
        return "curl is not installed (apt-get install curl)"
    return None


def _require(missing: str | None, without_node: bool = False) -> None:
    if missing is not None:
        if os.environ.get("REQUIRE_ALL") == "1" and not without_node:
            pytest.fail(missing)
        pytest.skip(missing)
