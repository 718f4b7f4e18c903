"""Every example runs as it stands, but for the address, and leaves the pictures it names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.page.pipeline import Pipeline

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = {
    "01_openai_client.py": {"fox.png"},
    "02_stream_previews.py": {"strawberry.png", "strawberry-preview-0.png"},
    "03_async_job.py": {"cake-0.png", "cake-1.png"},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    pipeline = Pipeline(tmp_path_factory.mktemp("service"))
    yield pipeline
    pipeline.close()


def test_no_example_is_forgotten() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PICTURES)


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_an_example_leaves_its_pictures(name: str, service: Pipeline, tmp_path: Path) -> None:
    source = (EXAMPLES / name).read_text().replace("http://127.0.0.1:8000/", service.url)
    source = source.replace("http://127.0.0.1:8000", service.url)
    subprocess.run([sys.executable, "-c", source], cwd=tmp_path, check=True, timeout=120)
    assert PICTURES[name] <= {path.name for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
