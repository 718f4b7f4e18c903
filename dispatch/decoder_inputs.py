"""What decoders need of a job beside its request: an encoded prompt, and pictures that are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.capabilities import Capabilities
from engine.render import Conditioning, LoraUse, Pixels, RenderSpec, Source
from jobs.request import ImageRequest, preview_passes


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

    def spec(
        self, render_id: str, request: ImageRequest, index: int, can: Capabilities | None
    ) -> RenderSpec:
        """Image `index` of the request, from its first pass. can: as of DispatchSettings."""
        width, height = self.size(request, can)
        passes = request.decoder_passes
        if self.source is not None and can is not None and not can.size_multiple:
            passes = min(passes, int(self.source.redraw.sum()))  # it may be of a finer grid
        return RenderSpec(
            render_id=render_id,
            conditioning=self.conditioning,
            seed=request.image_seed(index),
            passes=passes,
            guidance=request.guidance,
            source=self.source,
            references=self.references,
            loras=tuple(LoraUse(lora.name, lora.weight) for lora in request.loras),
            width=width,
            height=height,
            trace=request.trace,
            transparent=request.background == "transparent",
            yields=request.in_batch,
        )

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


def looks_at(request: ImageRequest, screen_at: Iterable[float]) -> list[int]:
    """Passes after which there is a preview: those that were asked for, and those after these
    shares of the passes, which are screened."""
    screened = (round(request.passes * share) for share in screen_at)
    looks = {look for look in screened if 0 < look < request.passes}
    return sorted(looks | set(preview_passes(request.passes, request.partial_images)))
