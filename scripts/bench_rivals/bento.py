"""BentoML in an environment of its own: with our constraints pip would find only a version from
years ago. What draws there is this repository, with our packages behind BentoML's own."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import DEVNULL

from scripts.bench.workload import Recipe
from scripts.children import server
from serve_app.config.cluster import environment
from serve_app.operate.local_cluster import free_port

VERSION = "1.4.40"
VENV = Path(".cache/bentoml")
SERVICE = "scripts.bench.rivals.bentoml_batch:BatchService"
SETTINGS = "BENCH_RIVAL"
INSTALL_SECONDS = 300.0


def install() -> str | None:
    """At its pinned version: 190 MB. Why it is not there, or None."""
    python = VENV / "bin" / "python"
    paths = [Path(sysconfig.get_path("purelib", vars={"base": str(VENV.resolve())}))]
    try:
        if not (VENV / "bin" / "bentoml").is_file():
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            wanted = [*pip, f"bentoml=={VERSION}"]
            subprocess.run(wanted, check=True, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        return f"BentoML {VERSION} cannot be installed into {VENV}: {error}"
    ours = [Path.cwd(), Path(sysconfig.get_path("purelib"))]
    (paths[0] / "bench.pth").write_text("".join(f"{path}\n" for path in ours), encoding="utf-8")
    return None


def serving(recipe: Recipe, workers: int) -> AbstractContextManager[str]:
    """Its base URL while it runs."""
    port = free_port()
    given = json.dumps({"recipe": recipe.to_json(), "workers": workers})
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(VENV.resolve() / "home")}
    return server(
        port,
        ["-m", "bentoml", "serve", SERVICE, "--host", "127.0.0.1", "--port", str(port)],
        "/readyz",
        python=str((VENV / "bin" / "python").absolute()),
        stdout=DEVNULL,
        stderr=DEVNULL,
        env={**environment(), **quiet, SETTINGS: given},
    )
