"""Options that make forwards faster, and what a pass does not wait for."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch.overrides import TorchFunctionMode, resolve_name

from engine.decoders.diffusers.decoder import DiffusersDecoder
from engine.decoders.diffusers.pixels import are_finite
from engine.decoders.diffusers.speed import installed_backends
from tests.families import kit
from tests.families.checkpoints import TINY

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
XL = kit.Case("StableDiffusionXLPipeline", "StableDiffusionXLPipeline")
FLUX = kit.Case("FluxPipeline", "FluxPipeline")
COARSE = 2e-5
"""Most that another kernel may move a value in 0..1 of these pictures."""


@pytest.fixture
def own_backend() -> Iterator[None]:
    """Choosing one also changes the process's default."""
    yield
    _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)


def test_another_attention_backend_draws_the_same_picture(own_backend: None) -> None:
    asked = kit.spec(FLUX)
    decoder = DiffusersDecoder(kit.folder(FLUX.checkpoint), row_chunk=1, attention="_native_math")
    used = {
        module.processor._attention_backend
        for module in decoder.pipe.transformer.modules()
        if hasattr(module, "processor")
    }
    assert used == {AttentionBackendName._NATIVE_MATH}
    ours, native = (
        kit.draw_alone(decoder, asked),
        kit.draw_alone(kit.decoder("FluxPipeline"), asked),
    )
    np.testing.assert_allclose(ours, native, atol=COARSE)


def test_backends_that_are_not_there_are_refused_with_those_that_are() -> None:
    folder = kit.folder(FLUX.checkpoint)
    assert "native" in installed_backends()
    assert not [name for name in installed_backends() if "hub" in name]
    with pytest.raises(ValueError, match=r"'flash_hub' would be downloaded; there are .*native"):
        DiffusersDecoder(folder, attention="flash_hub")
    with pytest.raises(ValueError, match=r"'_native_xla' is not installed; there are .*native"):
        DiffusersDecoder(folder, attention="_native_xla")
    with pytest.raises(ValueError, match="UNet2DConditionModel has no choice of backends"):
        DiffusersDecoder(kit.folder(XL.checkpoint), attention="native")


@pytest.mark.parametrize("case", [FLUX, XL], ids=str)
def test_compiled_blocks_draw_the_same_picture(case: kit.Case) -> None:
    """Which kernels a compiler makes is its own affair: here it makes none."""
    with torch.compiler.set_stance("force_eager"):
        decoder = DiffusersDecoder(kit.folder(case.checkpoint), row_chunk=1, compile=True)
        denoiser = decoder.pipe.transformer if case is FLUX else decoder.pipe.unet
        compiled = [m for m in denoiser.modules() if m._compiled_call_impl is not None]
        assert {type(module).__name__ for module in compiled} == {*denoiser._repeated_blocks}
        asked = kit.spec(case)
        ours, plain = kit.draw_alone(decoder, asked), kit.draw_alone(kit.decoder(case.name), asked)
    np.testing.assert_array_equal(ours, plain)


def test_what_cannot_be_compiled_is_refused() -> None:
    with pytest.raises(ValueError, match="names no repeated blocks"):
        DiffusersDecoder(kit.folder("AmusedPipeline"), compile=True)
    with pytest.raises(ValueError, match="compiled blocks do not see loras"):
        DiffusersDecoder(kit.folder(XL.checkpoint), compile=True, loras={"ink": "nowhere"})


class Waits(TorchFunctionMode):
    """Counts the calls that would wait for a GPU until all that was launched is done: from code of
    ours, and from that of libraries."""

    NAMES = frozenset(
        f"torch.Tensor.{name}"
        for name in (
            "item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__",
            "nonzero", "__array__",
        )
    ) | {"torch.nonzero", "torch.equal", "torch.allclose"}  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.ours: Counter[str] = Counter()
        self.libraries: Counter[str] = Counter()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if (name := resolve_name(function)) in self.NAMES:
            (self.ours if _asked_by_us() else self.libraries)[str(name)] += 1
        return function(*args, **(kwargs or {}))


def _asked_by_us() -> bool:
    """Whether the first caller outside of torch and of this file is in the engine."""
    frame = sys._getframe(2)
    while f"{os.sep}torch{os.sep}" in frame.f_code.co_filename and frame.f_back:
        frame = frame.f_back
    return frame.f_globals["__name__"].startswith("engine.")


def waits_of_a_pass(checkpoint: str, width: int) -> Waits:
    """Of the third pass of each render: by then a pipeline has made what it makes once."""
    case = next(case for case in kit.CASES if case.checkpoint == checkpoint)
    decoder = kit.decoder(checkpoint)
    renders = [decoder.begin(kit.spec(case, number, 6), None) for number in range(width)]
    for _ in range(2):
        decoder.step(renders)
    with Waits() as waits:
        decoder.step(renders)
    for render in renders:
        decoder.drop(render)
    return waits


def test_waiting_is_seen() -> None:
    with Waits() as waits:
        tensor = torch.ones(2)
        float(tensor[0]), tensor.tolist(), tensor.nonzero(), bool(tensor[0] > 0)
    assert waits.libraries.total() == 4
    with Waits() as waits:
        are_finite([tensor])
    assert waits.ours.total() == 1


SCHEDULERS = {name for name in TINY if name.startswith(("StableDiffusionC", "StableDiffusionI"))}
WAIT = SCHEDULERS | {
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLControlNetPipeline",
    "LatentConsistencyModelPipeline",
    "ZImagePipeline",
    "Lumina2Pipeline",
    "AmusedPipeline",
}
"""Whose own code or scheduler asks for numbers in each pass; of Euler's they are on the CPU."""


@pytest.mark.parametrize("checkpoint", TINY)
def test_a_pass_waits_for_the_device_once_whatever_its_width(checkpoint: str) -> None:
    """For whether all latents are numbers."""
    for width in (1, 3):
        waits = waits_of_a_pass(checkpoint, width)
        assert waits.ours == Counter({"torch.Tensor.tolist": 1})
        assert bool(waits.libraries) is (checkpoint in WAIT), waits.libraries
