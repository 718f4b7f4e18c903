"""What torch says when there is no memory left, in the engine's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from engine.decoder import OutOfMemory

ON_THE_CPU = "can't allocate memory"
"""Of torch's RuntimeError; on a GPU it is a class of its own."""


@contextmanager
def translated(what_fits: str) -> Iterator[None]:
    """torch's error of that kind becomes OutOfMemory; every other one passes."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and ON_THE_CPU not in str(error):
            raise
    else:
        return
    raise OutOfMemory(what_fits)  # outside the except: torch's error holds what was made until then
