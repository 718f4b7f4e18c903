"""What decoders need of a job beside its request: an encoded prompt, and pictures that are read."""

from __future__ import annotations

from dataclasses import dataclass

from engine.capabilities import Capabilities
from engine.render import Conditioning, Pixels, Source
from jobs.request import ImageRequest


@dataclass(frozen=True, slots=True)
class DecoderInputs:
    """The same for all images of a job."""

    conditioning: Conditioning
    source: Source | None = None
    """What an edit changes."""
    references: tuple[Pixels, ...] = ()
    """What it looks at."""

    @property
    def pictures(self) -> tuple[Pixels, ...]:
        """All that came in."""
        return self.references if self.source is None else (self.source.pixels,)

    def size(
        self, request: ImageRequest, can: Capabilities | None
    ) -> tuple[int, int] | tuple[None, None]:
        """Width and height that a decoder is asked for; none where all its pictures are of one
        size. can: as of DispatchSettings."""
        if can is None or not can.size_multiple:
            return None, None
        if self.source is not None:  # made in that size, maybe by a gateway that knew another
            return self.source.pixels.shape[1], self.source.pixels.shape[0]
        return can.drawn_size(request.width, request.height)
