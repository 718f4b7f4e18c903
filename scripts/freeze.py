"""Write constraints.txt: the exact versions, in this environment, of all that our extras pull in.

Run it in the environment that the tests passed in: .venv/bin/python -m scripts.freeze
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
HEAD = """\
# The versions that the tests passed with; pip install -c constraints.txt -e ".[test,train,bench]"
# Written by scripts/freeze.py. Local labels (+cpu) are cut off, so that any build of torch fits.
"""


def children(requirement: Requirement) -> list[Requirement]:
    """What a requirement's installed distribution asks for, with the same extras."""
    found = []
    for text in distribution(requirement.name).requires or []:
        child = Requirement(text)
        extras = ("", *requirement.extras)
        if child.marker is None or any(child.marker.evaluate({"extra": e}) for e in extras):
            found.append(child)
    return found


def closure(roots: list[Requirement]) -> dict[str, str]:
    """Name to version of everything reachable from `roots`. Says what is missing, and leaves it."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = list(roots)
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            version = distribution(requirement.name).version
        except PackageNotFoundError:
            print(f"not installed here: {requirement}", file=sys.stderr)
            continue
        pins[key[0]] = version.split("+")[0]
        todo += children(requirement)
    return pins


def main() -> None:
    """Read pyproject.toml, walk, write."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    pins = closure([Requirement(text) for text in texts])
    lines = "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))
    (ROOT / "constraints.txt").write_text(HEAD + lines)
    print(f"{len(pins)} pins")


if __name__ == "__main__":
    main()
