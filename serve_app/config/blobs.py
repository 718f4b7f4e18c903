"""The section `blobs`: where pictures live."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobs.blobs.places import BlobPlace, DirectoryPlace, S3Place
from serve_app.config.sections import Section

FileName = Annotated[str, Field(min_length=1)]


class S3Section(Section):
    """A bucket of S3, or of a server that speaks it."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    endpoint: Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")] | None = None
    """Of a server that is not AWS; with `path_style: false` the bucket is in its name."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] = "us-east-1"
    prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*(/|$))*$")] = ""
    """Of all keys, for a bucket that holds other things, too."""
    path_style: bool = True
    """URLs are endpoint/bucket/key, otherwise bucket.endpoint/key."""
    access_key_id_file: FileName | None = None
    secret_access_key_file: FileName | None = None
    session_token_file: FileName | None = None
    """Files are read again every few minutes. Without them the key is that of the environment
    (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), or of the role of the pod or machine."""
    downloads: Literal["proxied", "redirect"] = "proxied"
    """redirect: a request for a picture gets a URL of the bucket that is valid for a minute."""

    @model_validator(mode="after")
    def _whole_key(self) -> Self:
        if (self.access_key_id_file is None) != (self.secret_access_key_file is None):
            missing = "access_key_id" if self.access_key_id_file is None else "secret_access_key"
            raise ValueError(f"{missing}_file: is missing; give both files or neither")
        if self.session_token_file is not None and self.access_key_id_file is None:
            raise ValueError("access_key_id_file: is missing; a session token goes with a key")
        return self

    def place(self) -> S3Place:
        """As the store takes it."""
        files = (self.access_key_id_file, self.secret_access_key_file, self.session_token_file)
        return S3Place(
            bucket=self.bucket,
            endpoint=self.endpoint,
            region=self.region,
            prefix=self.prefix.rstrip("/"),
            path_style=self.path_style,
            key_files=tuple(name for name in files if name is not None),
            redirect=self.downloads == "redirect",
        )


class BlobsSection(Section):
    """Where pictures live: in a directory, or in a bucket."""

    directory: FileName = "var/laptop/blobs"
    s3: S3Section | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        # A config that was written out and is read again has the default.
        if self.s3 is not None and self.directory != type(self).model_fields["directory"].default:
            raise ValueError("directory: leave it out, pictures are in the bucket of s3")
        return self

    def place(self) -> BlobPlace:
        """As processes take it."""
        return DirectoryPlace(self.directory) if self.s3 is None else self.s3.place()
