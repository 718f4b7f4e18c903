"""What goes wrong, silently, where stock pipelines are cut open carelessly."""

from __future__ import annotations

import gc
import inspect
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, FirstBlockCacheConfig

from engine.decoder import OutOfMemory, RenderRejected, RendersBroken
from engine.decoders.diffusers.decoder import DiffusersDecoder
from engine.render import Conditioning, Pixels, Source
from tests.families.kit import (
    FP32,
    Case,
    conditioning,
    decoder,
    draw_alone,
    draw_staggered,
    floats,
    folder,
    picture,
    spec,
    stock_picture,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
FLUX = Case("FluxPipeline", "FluxPipeline")
SD3 = Case("StableDiffusion3Pipeline", "StableDiffusion3Pipeline")
QWEN = Case("QwenImagePipeline", "QwenImagePipeline")


def test_the_scheduler_keeps_its_signature() -> None:
    """Pipelines look for `generator` and `eta` in it: without it noise is unseeded."""
    here = decoder(FLUX.checkpoint)
    state = here.begin(spec(FLUX), None)
    cut = inspect.signature(state.drawing.scheduler.step).parameters
    assert {"model_output", "timestep", "sample", "generator"} <= cut.keys()
    here.drop(state)


def test_a_dropped_render_is_freed_at_once_without_the_garbage_collector() -> None:
    here = decoder(FLUX.checkpoint)
    draw_alone(here, spec(FLUX))
    gc.collect()
    gc.disable()
    try:
        state = here.begin(spec(FLUX), None)
        here.step([state])
        held = [weakref.ref(state.drawing), weakref.ref(state.drawing.latents)]
        held.append(weakref.ref(state.drawing.scheduler))
        assert all(ref() is not None for ref in held)
        here.drop(state)
        del state
        assert [ref() for ref in held] == [None, None, None]
    finally:
        gc.enable()


def test_a_finished_render_holds_nothing_but_its_latents() -> None:
    here = decoder(FLUX.checkpoint)
    state = here.begin(spec(FLUX, passes=1), None)
    scheduler = weakref.ref(state.drawing.scheduler)
    here.step([state])
    assert state.drawing.wants is None
    assert state.drawing.final is not None
    here.drop(state)
    del state
    gc.collect()
    assert scheduler() is None


def test_sizes_with_as_many_tokens_do_not_share_a_forward() -> None:
    """Ids of positions have no batch dimension: merged by shape, one picture would be wrong."""
    here = decoder(FLUX.checkpoint)
    wide = spec(FLUX, 0, width=64, height=32)
    tall = spec(FLUX, 1, width=32, height=64)
    assert here.plan(wide).batch_key != here.plan(tall).batch_key
    for each, found in zip((wide, tall), draw_staggered(here, [wide, tall]), strict=True):
        np.testing.assert_allclose(found, stock_picture(FLUX, each), rtol=0, atol=FP32)


def test_the_threads_grad_mode_stays() -> None:
    """Lanes are suspended inside the pipelines' no_grad, and end in any order."""
    here = decoder(FLUX.checkpoint)
    modes = []
    first, second = (here.begin(spec(FLUX, number, 2), None) for number in (0, 1))
    for verb in (
        lambda: here.step([first, second]),
        lambda: here.drop(first),
        lambda: here.step([second]),
        lambda: here.preview(second),
        lambda: here.finish(second),
        lambda: here.drop(second),
    ):
        verb()
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
    assert set(modes) == {(True, False)}


def test_step_caches_are_refused(tmp_path: Path) -> None:
    """They keep one render's state in the shared model."""
    here = DiffusersDecoder(folder(FLUX.checkpoint), previews="vae")
    transformer = here.pipe.transformer
    transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(RuntimeError, match="disable_cache"):
        here.begin(spec(FLUX), None)
    transformer.disable_cache()
    here.drop(here.begin(spec(FLUX), None))


def test_no_progress_bars(capfd: pytest.CaptureFixture[str]) -> None:
    draw_alone(DiffusersDecoder(folder(FLUX.checkpoint)), spec(FLUX))
    assert capfd.readouterr() == ("", "")


def test_prompts_of_other_lengths_share_a_forward() -> None:
    """Padded, with a mask made up for those that come without."""
    here = decoder(QWEN.checkpoint)
    short = _shortened(conditioning(QWEN.checkpoint, 5), 4)
    specs = [spec(QWEN, 0), spec(QWEN, 1, conditioning=short)]
    before = here.models.forwards
    states = [here.begin(each, None) for each in specs]
    for _ in range(4):
        here.step(states)
    assert here.models.forwards - before == 4 * 2, "with and without the prompt"
    for each, state in zip(specs, states, strict=True):
        np.testing.assert_allclose(
            floats(here, state), stock_picture(QWEN, each), rtol=0, atol=FP32
        )


def _shortened(given: Conditioning, length: int) -> Conditioning:
    arrays = {n: given.numpy(n)[:length] for n in given.tensors if "mask" not in n}
    return Conditioning.from_numpy("short", **arrays)


def test_numbers_that_are_none_fail_that_render_alone() -> None:
    here = decoder(SD3.checkpoint)
    arrays = {n: conditioning(SD3.checkpoint, 1).numpy(n) for n in spec(SD3).conditioning.tensors}
    arrays["prompt_embeds"] = arrays["prompt_embeds"] * np.float32("nan")
    bad = spec(SD3, 1, conditioning=Conditioning.from_numpy("nan", **arrays))
    well, broken = here.begin(spec(SD3), None), here.begin(bad, None)
    with pytest.raises(RendersBroken, match="NaN") as raised:
        here.step([well, broken])
    assert raised.value.renders == (broken,)
    here.drop(broken)
    for _ in range(3):
        here.step([well])
    np.testing.assert_allclose(floats(here, well), stock_picture(SD3, spec(SD3)), rtol=0, atol=FP32)


def test_a_full_device_is_the_engines_error() -> None:
    here = decoder(SD3.checkpoint)
    state = here.begin(spec(SD3), None)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = here.pipe.transformer.proj_out.register_forward_pre_hook(full)
    try:
        with pytest.raises(OutOfMemory, match="no room"):
            here.step([state])
    finally:
        hook.remove()
        here.drop(state)


def test_pixels_are_made_on_another_thread_beside_passes() -> None:
    here = decoder(QWEN.checkpoint)
    done, going = here.begin(spec(QWEN, 0, 1), None), here.begin(spec(QWEN, 1, 4), None)
    here.step([done, going])
    made: list[Pixels] = []
    thread = threading.Thread(target=lambda: made.append(here.finish(done)))
    thread.start()
    for _ in range(3):
        here.preview(going)
        here.step([going])
    thread.join()
    wanted = stock_picture(QWEN, spec(QWEN, 0, 1))
    assert np.abs(made[0] - (wanted * 255).round()).max() <= 1
    np.testing.assert_allclose(
        floats(here, going), stock_picture(QWEN, spec(QWEN, 1, 4)), rtol=0, atol=FP32
    )


def test_previews_come_closer_and_change_nothing() -> None:
    here = decoder(SD3.checkpoint)
    state = here.begin(spec(SD3, passes=8), None)
    shown = []
    for _ in range(8):
        here.step([state])
        shown.append(here.preview(state).astype(float))
    assert np.abs(shown[-2] - shown[-1]).mean() < np.abs(shown[0] - shown[-1]).mean()
    found = floats(here, state)
    np.testing.assert_array_equal(found, draw_alone(here, spec(SD3, passes=8)))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("width", {"width": 40}),
        ("height", {"height": 0}),
        ("width x height", {"width": 4096, "height": 4096}),
        ("passes", {"passes": 0}),
        ("guidance", {"guidance": 0.0}),
        ("conditioning: pooled_prompt_embeds is missing", {"conditioning": "short"}),
        ("references", {"references": (picture(0),)}),
        ("source.pixels", {"source": Source(picture(0, 32, 32), np.zeros(0, bool))}),
        ("source.strength", {"source": Source(picture(0), np.zeros(0, bool), strength=0.0)}),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(field: str, change: dict[str, Any]) -> None:
    if change.get("conditioning") == "short":
        change = {"conditioning": _shortened(conditioning("StableDiffusionPipeline", 0), 3)}
    with pytest.raises(RenderRejected, match=field):
        decoder(FLUX.checkpoint).plan(replace(spec(FLUX), **change))


def test_a_source_that_leaves_no_pass_is_refused() -> None:
    sdxl = Case("StableDiffusionXLPipeline", "StableDiffusionXLPipeline")
    source = Source(picture(0), np.zeros(0, bool), strength=0.2)
    with pytest.raises(RenderRejected, match=r"source\.strength of 0\.2"):
        decoder(sdxl.checkpoint).plan(spec(sdxl, passes=4, source=source))
    assert decoder(sdxl.checkpoint).plan(spec(sdxl, passes=5, source=source)).passes == 1


def test_a_tiny_autoencoder_shows_previews(tmp_path: Path) -> None:
    tiny = AutoencoderTiny(
        latent_channels=16,
        encoder_block_out_channels=(4,) * 4,
        decoder_block_out_channels=(4,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )
    tiny.save_pretrained(tmp_path)
    here = DiffusersDecoder(folder(SD3.checkpoint), previews=str(tmp_path))
    state = here.begin(spec(SD3), None)
    here.step([state])
    first = here.preview(state)
    here.step([state])
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    assert (first != here.preview(state)).any()
    here.drop(state)
