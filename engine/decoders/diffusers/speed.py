"""The options `compile` and `attention`: what makes a denoiser's forwards faster on some chips.
Both change the last bits of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _check_attention_backend_requirements,
)

DOWNLOADS = "hub"
"""In the names of backends that fetch their kernel when they are chosen."""


def choose_attention(denoisers: Sequence[Any], backend: str) -> None:
    """From now on the forwards of these use that backend. ValueError, with those that are
    installed, for one that is not, or that downloads its kernel, or models that have no choice."""
    installed = installed_backends()
    if backend not in installed:
        why = "would be downloaded" if DOWNLOADS in backend else "is not installed"
        raise ValueError(f"attention: {backend!r} {why}; there are {', '.join(installed)}")
    for denoiser in denoisers:
        if not _chooses_backend(denoiser):
            raise ValueError(
                f"attention must be left out: {type(denoiser).__name__} has no choice of backends"
            )
        denoiser.set_attention_backend(backend)


def installed_backends() -> list[str]:
    """Names that need no download. Whether the chip has a kernel shows in the first picture."""
    return [each.value for each in AttentionBackendName if _is_installed(each)]


def compile_blocks(denoisers: Sequence[Any]) -> None:
    """Compile the blocks of which these mostly consist, each when it first runs; for any number of
    rows. ValueError naming the option for models that do not say which blocks those are."""
    for denoiser in denoisers:
        if not getattr(denoiser, "_repeated_blocks", None):
            raise ValueError(
                f"compile must be false: {type(denoiser).__name__} names no repeated blocks"
            )
        denoiser.compile_repeated_blocks(dynamic=True)


def _is_installed(backend: AttentionBackendName) -> bool:
    if DOWNLOADS in backend.value:
        return False
    try:
        _check_attention_backend_requirements(backend)
    except RuntimeError:
        return False
    return True


def _chooses_backend(denoiser: Any) -> bool:
    processors = (getattr(module, "processor", None) for module in denoiser.modules())
    return any(hasattr(each, "_attention_backend") for each in processors)
