"""Builds the image with buildah, on a base that needs no registry unless one is named."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "image"
NAME = "localhost/meltproof"
LOCAL_BASE = "localhost/meltproof-base"
LOCAL_PACKAGES = "python3,python3-venv,ca-certificates"
RELEASE = "bookworm"
# What the sandbox of a container may not raise; crun wants cgroups that not every host has.
RUNTIME = ("--runtime", "runc")


@dataclass(frozen=True)
class Image:
    """A built image. mebibytes: of all layers, unpacked."""

    name: str
    mebibytes: float


def local_base() -> str:
    """Debian with Python, made from the packages that apt finds here. For where no registry is."""
    if _run("buildah", "images", "-q", LOCAL_BASE, may_fail=True).strip():
        return LOCAL_BASE
    folder = CACHE / "base"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base.tar").exists():
        _run("mmdebstrap", "--variant=minbase", f"--include={LOCAL_PACKAGES}", RELEASE,
             str(folder / "base.tar"))  # fmt: skip
    (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    _run("buildah", "bud", *RUNTIME, "--network=host", "-t", LOCAL_BASE, str(folder))
    return LOCAL_BASE


def wheels() -> Path:
    """A folder with a wheel of every dependency, from where this Python's pip finds them. pip is
    asked again once dependencies or constraints have changed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folder = CACHE / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    constraints = ROOT / "constraints.txt"
    made, of = folder / "made-of.txt", "\n".join([sys.version, *wanted, constraints.read_text()])
    if made.exists() and made.read_text() == of:
        return folder
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--find-links", str(folder)]
    _run(*pip, "-c", str(constraints), "-w", str(folder), *wanted)
    made.write_text(of)
    return folder


def build(target: str, base: str, wheelhouse: Path | None) -> Image:
    """The Dockerfile's target. wheelhouse: nothing comes from an index then.

    Raises subprocess.CalledProcessError, with what the build said.
    """
    name = f"{NAME}:{target}"
    arguments = ["--build-arg", f"BASE={base}"]
    if wheelhouse is not None:
        offline = "--no-index --find-links /wheels"
        arguments += ["-v", f"{wheelhouse}:/wheels:ro"]
        arguments += ["--build-arg", f"PIP_OPTIONS={offline}"]
        arguments += ["--build-arg", f"TORCH_OPTIONS={offline}"]
    _run("buildah", "bud", *RUNTIME, "--network=host", "--layers", "--target", target, *arguments,
         "-t", name, str(ROOT))  # fmt: skip
    size = _run("buildah", "images", "--json", name)
    return Image(name, _mebibytes(size))


def _mebibytes(listed: str) -> float:
    """Of the first image in buildah's JSON, which says sizes as `1.23 GB`."""
    number, unit = json.loads(listed)[0]["size"].split()
    return float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit] / 2**20


def _run(*command: str, may_fail: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        done.check_returncode()
    return done.stdout
