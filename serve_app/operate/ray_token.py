"""The token of Ray clusters that ask for one, found where Ray's own programs look for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def ray_token(environment: Mapping[str, str]) -> str | None:
    """RAY_AUTH_TOKEN, or else what the file RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token holds; None
    where there is none, or RAY_AUTH_MODE says that none is wanted."""
    if environment.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    if given := environment.get("RAY_AUTH_TOKEN", "").strip():
        return given
    home = environment.get("HOME", "")
    path = environment.get("RAY_AUTH_TOKEN_PATH") or (home and f"{home}/.ray/auth_token")
    with suppress(OSError, ValueError):
        return (path and Path(path).read_text(encoding="ascii").strip()) or None
    return None
