"""Another version of the code as Ray takes it: the project's packages in an archive that replicas
unpack and run in place of what is installed."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.cluster import Config

ROOT = Path(__file__).parents[2]
FOLDERS = ("autoscaling", "deployments", "dispatch", "engine", "jobs", "serve_app", "studio")
CHANGED = "serve_app/__init__.py"
MARK = '\nNEXT = "the next version"\n'
"""What the next version has more than this one."""


@contextmanager
def next_code(folder: Path, config: Config) -> Iterator[Config]:
    """The config whose application runs the next version."""
    archive = folder / "next.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in _files():
            name = str(path.relative_to(ROOT))
            text = path.read_bytes() + (MARK.encode() if name == CHANGED else b"")
            packed.writestr(f"code/{name}", text)  # Ray takes the one folder at the top away
    after = copy.deepcopy(config)
    after["applications"][0]["runtime_env"] = {"working_dir": f"file://{archive}"}
    yield after


def _files() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
