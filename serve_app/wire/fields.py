"""Types of fields that several answers have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[int, Field(description="Seconds since the epoch")]
PixelSize = Annotated[str, Field(pattern="^[0-9]+x[0-9]+$")]
OutputFormat = Annotated[str, Field(json_schema_extra={"enum": ["png", "webp", "jpeg"]})]
Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]
