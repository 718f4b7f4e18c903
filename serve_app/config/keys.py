"""API keys of a configuration, and secrets that sign tokens: given in it, or in a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from jobs.request import Role
from serve_app.config.errors import ConfigError
from serve_app.config.secret_fields import Secret
from serve_app.config.sections import SECRET_BYTES, Section

A_KEY = re.compile(r"^[\x21-\x7e]+$")


def read_secret(file: str, path: str) -> bytes:
    """What a file holds, without white space around it. ConfigError, with the field's path."""
    try:
        return Path(file).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{path}.file: {file}: {error.strerror}") from None


class KeySection(Section):
    """An API key and its tenant. The key stands here, or in a file that gateways read at their
    start and whenever the configuration is edited live."""

    key: Annotated[str | None, Field(min_length=1, pattern=A_KEY.pattern, repr=False), Secret()] = (
        None
    )
    file: Annotated[str, Field(min_length=1)] | None = None
    tenant: Annotated[str, Field(min_length=1)]
    tier: str = "free"
    role: Role = "tenant"

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.key is None and self.file is None:
            raise ValueError("key: is missing; give it, or the file that holds it")
        if self.key is not None and self.file is not None:
            raise ValueError("key: leave it out, file holds it")
        return self

    def read(self, path: str) -> str:
        """The key. ConfigError, with the field's path; the key itself is never repeated."""
        if self.key is not None:
            return self.key
        key = read_secret(self.file or "", path).decode("utf-8", "replace")
        if not A_KEY.fullmatch(key):
            raise ConfigError(f"{path}.file: must hold a key alone: visible characters of ASCII")
        return key


class SigningSection(Section):
    """A secret that signs tenants' tokens, given here or in a file.

    The first one mints; all are believed, so that a new one is put in front of the old, and the
    old one taken out when its tokens have expired.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    """The tokens' `kid`."""
    secret: Annotated[str | None, Field(min_length=SECRET_BYTES, repr=False), Secret()] = None
    file: Annotated[str, Field(min_length=1)] | None = None
    audience: Annotated[str, Field(min_length=1)] | None = None
    """What its tokens must name as `aud`, for a secret that signs tokens for others, too."""
    operators: bool = False
    """Whether its tokens may carry the role of an operator."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.secret is None) == (self.file is None):
            raise ValueError("give either secret or file")
        return self

    def read(self, path: str) -> bytes:
        """The secret. ConfigError, with the field's path; the secret itself is never repeated."""
        if self.secret is not None:
            return self.secret.encode()
        secret = read_secret(self.file or "", path)
        if len(secret) < SECRET_BYTES:
            raise ConfigError(f"{path}.file: must hold at least {SECRET_BYTES} bytes")
        return secret
