"""A real OpenID Connect issuer, oauth2-mock-server, on a port of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import pytest

NODE = Path(__file__).parent / "oauth2"


def require_issuer() -> None:
    """Skips by name where Node or the package is missing; REQUIRE_ALL=1 fails, unless npm's
    registry is out of reach."""
    if shutil.which("node") is None:
        missing = "Node is not installed (apt-get install nodejs npm)"
    elif not (NODE / "node_modules" / "oauth2-mock-server").is_dir():
        missing = "oauth2-mock-server is not installed (npm ci --prefix tests/stages/oauth2)"
    else:
        return
    if os.environ.get("REQUIRE_ALL") == "1" and "WITHOUT_NODE" not in os.environ:
        pytest.fail(missing)
    pytest.skip(missing)


class RealIssuer:
    """Its process. Keys are new with every start; the first one's id is `first`."""

    def __init__(self, port: int = 0) -> None:
        self._process = subprocess.Popen(
            ["node", "issuer.mjs", str(port)],
            cwd=NODE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.url: str = self._answer()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def token(self, kid: str = "first", header: Any = None, **claims: Any) -> str:
        """Signed for an hour from now; a claim that is None is left out."""
        return self._ask({"kid": kid, "header": header or {}, "claims": claims})

    def generate(self, kid: str) -> None:
        """One more key."""
        self._ask({"generate": kid})

    def kill(self) -> None:
        """It is away."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _ask(self, command: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the issuer ended with {self._process.wait()}"
        return str(json.loads(line))
