"""What the tests of engine.worker run in its process: items that behave, and that do not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


class Target:
    """Answers items in capitals. "die", "burn", "sleep" and "raise" do that instead; "die once
    PATH" dies unless that file is there, and makes it."""

    def __init__(self, broken: str = "") -> None:
        if broken:
            raise ValueError(broken)

    def upper(self, items: list[str]) -> list[str]:
        print("a library says something")
        return [self.one(item) for item in items]

    def sized(self, items: list[str]) -> list[int]:
        """How many there are."""
        return [len(items)] * len(items)

    def one(self, item: str) -> str:
        match item.split():
            case ["die"]:
                os.kill(os.getpid(), signal.SIGSEGV)
            case ["die", "once", path] if not Path(path).exists():
                Path(path).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            case ["burn"]:
                while True:
                    pass
            case ["sleep"]:
                time.sleep(3600)
            case ["raise"]:
                raise KeyError(item)
        return item.upper()
