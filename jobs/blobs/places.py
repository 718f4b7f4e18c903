"""Where blobs are, as the configuration says it to every process. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DirectoryPlace:
    """A directory, which all nodes share."""

    directory: str

    @property
    def field(self) -> str:
        """What the configuration calls it."""
        return "blobs.directory"


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, below a prefix of its keys.

    endpoint: of a server that is not AWS. key_files: those of the access key's id, of its secret
    and, if there is one, of its session token, read again every few minutes; none: what the
    machine's environment or its role gives. redirect: clients read pictures from the bucket.
    """

    bucket: str
    endpoint: str | None = None
    region: str = "us-east-1"
    prefix: str = ""
    path_style: bool = True
    key_files: tuple[str, ...] = ()
    redirect: bool = False

    @property
    def field(self) -> str:
        """What the configuration calls it."""
        return "blobs.s3"


BlobPlace = DirectoryPlace | S3Place
