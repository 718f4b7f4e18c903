"""Programs that only some machines have."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def programs(*names: str) -> list[str]:
    """The path of each. Where one is missing, the test is skipped by its name; REQUIRE_ALL=1 fails
    instead."""
    beside = Path(sys.executable).parent  # what comes with Python packages
    search = f"{beside}:{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin"
    found = {name: shutil.which(name, path=search) for name in names}
    missing = sorted(name for name, path in found.items() if path is None)
    if missing:
        _missing(f"needs {', '.join(missing)}: see .ci/packages")
    return [path for path in found.values() if path is not None]


def modules(*names: str) -> None:
    """Skips the module of tests that calls it where one of an extra is not installed, as above."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        _missing(f"needs {', '.join(missing)}: pip install -e '.[test]'")


def _missing(message: str) -> NoReturn:
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)
