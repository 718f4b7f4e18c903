"""Postprocessing that some pictures end or hang; runs in the process of a worker."""

from __future__ import annotations

import os
import signal

from engine.picture import OutputFormat
from engine.postprocessing import Postprocessing, Unsigned
from engine.provenance.manifest import Made
from engine.render import Pixels

KILLS, HANGS = 13, 14


class Brittle(Postprocessing):
    """By the first value of the first pixel."""

    def encode(
        self,
        pixels: Pixels,
        size: tuple[int, int],
        output_format: OutputFormat,
        quality: int,
        made: Made,
        preview: bool = False,
    ) -> bytes | Unsigned:
        """See Postprocessing."""
        first = int(pixels[0, 0, 0])
        if first == KILLS:
            os.kill(os.getpid(), signal.SIGSEGV)
        while first == HANGS:
            pass
        return super().encode(pixels, size, output_format, quality, made, preview)
