"""The section `provenance`: how pictures say where they came from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dispatch.identity import (
    IdentityFiles,
    IdentityUnusable,
    KeyFile,
    check_identity,
)
from serve_app.config.errors import ConfigError
from serve_app.config.secret_fields import Secret
from serve_app.config.sections import SECRET_BYTES, Section

LOCAL = ".provenance"
"""Below the directory of pictures, which all nodes share, or the section's own; no picture has such
a name."""

FileName = Annotated[str, Field(min_length=1)]


class WatermarkKeySection(Section):
    """A secret that marks pictures, given here or in a file."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    """What a found mark says."""
    secret: Annotated[str | None, Field(min_length=SECRET_BYTES, repr=False), Secret()] = None
    file: FileName | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.secret is None) == (self.file is None):
            raise ValueError("give either secret or file")
        return self


class ProvenanceSection(Section):
    """Both layers are on, with keys that the service makes for itself, unless others are given;
    `off` in place of the section is neither."""

    watermark: bool = True
    """An imperceptible mark in the pixels of pictures and previews."""
    manifest: bool = True
    """A signed C2PA manifest in their files."""
    keys: Annotated[tuple[WatermarkKeySection, ...], Field(strict=False, repr=False)] = ()
    """The first one marks; all are looked for."""
    certificate: FileName | None = None
    """A PEM file: the signing certificate, then those above it."""
    private_key: FileName | None = None
    """A PEM file: its key, of the curve P-256, without a password."""
    directory: FileName | None = None
    """Where the keys are that the service makes for itself, on all nodes the same; left out: the
    directory of pictures."""
    trust_anchors: FileName | None = None
    """A PEM file: whose manifests are `trusted` when pictures are checked, beside the local one."""

    @model_validator(mode="before")
    @classmethod
    def _off(cls, given: Any) -> Any:
        """YAML reads `off` as false."""
        return {"watermark": False, "manifest": False} if given in (False, "off") else given

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            missing = "certificate" if self.certificate is None else "private_key"
            raise ValueError(f"{missing}: is missing; give both files or neither")
        ids = [key.id for key in self.keys]
        for number, key_id in enumerate(ids):
            if key_id in ids[:number]:
                raise ValueError(f"keys.{number}.id: the same id appears twice")
        return self

    @property
    def makes_keys(self) -> bool:
        """Whether something is on for which no key is given."""
        return (self.watermark and not self.keys) or (self.manifest and self.certificate is None)

    def files(self, blobs_directory: str) -> IdentityFiles:
        """Where everything is."""
        return IdentityFiles(
            watermark=self.watermark,
            manifest=self.manifest,
            directory=str(Path(self.directory or blobs_directory) / LOCAL),
            keys=tuple(
                KeyFile(key.id, None if key.secret is None else key.secret.encode(), key.file)
                for key in self.keys
            ),
            certificate=self.certificate,
            private_key=self.private_key,
            anchors=self.trust_anchors,
        )


def check_provenance(files: IdentityFiles) -> None:
    """Whether what is configured can mark and sign now. ConfigError, with the field's path."""
    try:
        check_identity(files, datetime.now(UTC))
    except IdentityUnusable as error:
        raise ConfigError(f"provenance.{error}") from None
