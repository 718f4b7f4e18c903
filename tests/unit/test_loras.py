"""LoRAs of several renders in one forward, against the stock pipeline with `set_adapters`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.decoders.diffusers.loras import LoraPool, RowsNotFirst, mixed
from engine.render import LoraUse
from tests.unit.lora_models import TARGETS, component, part, save_lora, sd3_pipe, unet_pipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),  # stock only
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
TOLERANCE = 2e-6
INK, OIL = LoraUse("ink"), LoraUse("oil")
HALF_INK = LoraUse("ink", 0.5)


@pytest.fixture(scope="module", params=[unet_pipe, sd3_pipe])
def family(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def folders(family: Callable[[], Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ink, oil and wax: the last changes convolutions too, where the model has them."""
    at = tmp_path_factory.mktemp("loras")
    convolutions = ["conv1"] if family is unet_pipe else ["proj_out"]
    return {
        "ink": save_lora(at / "ink", family(), 1),
        "oil": save_lora(at / "oil", family(), 2, ["to_k", "to_v"]),
        "wax": save_lora(at / "wax", family(), 3, TARGETS + convolutions),
    }


@pytest.fixture(scope="module")
def unet_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("unet")
    return {name: save_lora(at / name, unet_pipe(), 1 + i) for i, name in enumerate(("ink", "oil"))}


@pytest.fixture(scope="module")
def stock(family: Callable[[], Any], folders: dict[str, Path]) -> Any:
    pipe = family()
    for name, folder in folders.items():
        pipe.load_lora_weights(folder, adapter_name=name, local_files_only=True)
    return pipe


@pytest.fixture(autouse=True)
def _as_in_the_engine() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def set_stock(stock: Any, *uses: LoraUse) -> None:
    if not uses:
        stock.disable_lora()
        return
    stock.enable_lora()
    stock.set_adapters([use.name for use in uses], [use.weight for use in uses])


def pool_of(pipe: Any, folders: dict[str, Path], max_loaded: int = 8) -> LoraPool:
    return LoraPool(pipe, part(pipe), dict(folders), max_loaded)


def forward(pipe: Any, rows: Sequence[int]) -> Tensor:
    """[rows, 4, 8, 8]: row i depends on `rows[i]` alone, if nothing is added to it."""
    draws = [torch.Generator().manual_seed(row) for row in rows]

    def some(*shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=draw) for draw in draws])

    steps = torch.tensor([9.0 * row for row in rows])
    inputs = {"encoder_hidden_states": some(5, 24), "timestep": steps}
    if part(pipe) == "transformer":
        inputs["pooled_projections"] = some(12)
    return component(pipe)(some(4, 8, 8), **inputs, return_dict=False)[0]


def picture(pipe: Any, seed: int = 5) -> Tensor:
    """The latents of three steps with paired guidance."""
    draw = torch.Generator().manual_seed(seed)
    text = {"prompt_embeds": (5, 24)}
    if part(pipe) == "transformer":
        text["pooled_prompt_embeds"] = (12,)
    words = {
        which + name: torch.randn(1, *shape, generator=draw)
        for which in ("", "negative_")
        for name, shape in text.items()
    }
    answer = pipe(
        **words,
        height=8,
        width=8,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=draw,
        output_type="latent",
        return_dict=False,
    )
    return answer[0]


def far(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


MIXES: list[tuple[LoraUse, ...]] = [(INK,), (OIL,), (), (HALF_INK,)]


def test_rows_of_one_forward_are_drawn_with_loras_of_their_own(
    family: Callable[[], Any], folders: dict[str, Path], stock: Any
) -> None:
    pipe = family()
    pool = pool_of(pipe, folders)
    holds = [pool.hold(mix) for mix in MIXES]
    with mixed([(1, hold) for hold in holds]):
        together = forward(pipe, range(4))
    plain = forward(pipe, range(4))
    for row, (mix, hold) in enumerate(zip(MIXES, holds, strict=True)):
        set_stock(stock, *mix)
        expected = forward(stock, [row])[0]
        assert far(together[row], expected) <= TOLERANCE
        with mixed([(1, hold)]):
            assert far(forward(pipe, [row])[0], expected) == 0.0
        apart = far(together[row], plain[row])
        assert apart > 1e-3 if mix else apart == 0.0


@pytest.mark.parametrize(
    "uses",
    [(INK,), (LoraUse("wax", -1.5),), (LoraUse("ink", 0.7), LoraUse("oil", -0.4), LoraUse("wax"))],
    ids=["one", "negative", "three"],
)
def test_a_picture_equals_the_stock_pipelines(
    family: Callable[[], Any], folders: dict[str, Path], stock: Any, uses: tuple[LoraUse, ...]
) -> None:
    pipe = family()
    hold = pool_of(pipe, folders).hold(uses)
    set_stock(stock, *uses)
    with mixed([(2, hold)]):
        drawn = picture(pipe)
    assert far(drawn, picture(stock)) == 0.0
    assert far(drawn, picture(pipe)) > 1e-3


def test_the_order_of_the_loras_and_the_neighbours_change_nothing(
    family: Callable[[], Any], folders: dict[str, Path]
) -> None:
    pipe = family()
    pool = pool_of(pipe, folders)
    both, reverse = pool.hold((INK, OIL)), pool.hold((OIL, INK))
    others = pool.hold((LoraUse("wax"),)), pool.hold(())
    answers = []
    for first, neighbour in ((both, others[0]), (reverse, others[1]), (both, reverse)):
        with mixed([(2, first), (2, neighbour)]):
            answers.append(forward(pipe, [1, 2, 3, 4])[:2])
    assert far(answers[0], answers[1]) == far(answers[0], answers[2]) == 0.0


def test_rows_with_paired_guidance(
    family: Callable[[], Any], folders: dict[str, Path], stock: Any
) -> None:
    pipe = family()
    pool = pool_of(pipe, folders)
    with mixed([(2, pool.hold((HALF_INK,))), (2, pool.hold(())), (2, pool.hold((OIL,)))]):
        together = forward(pipe, range(6))
    for rows, mix in (([0, 1], (HALF_INK,)), ([2, 3], ()), ([4, 5], (OIL,))):
        set_stock(stock, *mix)
        assert far(together[rows], forward(stock, rows)) <= TOLERANCE


def test_a_kohya_file_draws_as_in_the_stock_pipeline(
    unet_folders: dict[str, Path], tmp_path: Path
) -> None:
    tensors = load_file(unet_folders["ink"] / "pytorch_lora_weights.safetensors")
    kohya: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        path, which = key.removeprefix("unet.").removesuffix(".weight").rsplit(".", 1)
        stem = "lora_unet_" + path.replace(".", "_")
        kohya[f"{stem}.{'lora_down' if which == 'lora_A' else 'lora_up'}.weight"] = tensor
        kohya[f"{stem}.alpha"] = torch.tensor(1.5)
    file = tmp_path / "kohya.safetensors"
    save_file(kohya, file)
    stock = unet_pipe()
    stock.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="ink")
    set_stock(stock, HALF_INK)
    pipe = unet_pipe()
    with mixed([(2, LoraPool(pipe, "unet", {"ink": file}).hold((HALF_INK,)))]):
        drawn = picture(pipe)
    assert far(drawn, picture(stock)) == 0.0
    assert far(drawn, picture(pipe)) > 1e-3


def everything(model: Any) -> list[tuple[object, ...]]:
    """Modules, parameters and hooks, so that two of these are equal if nothing was left behind."""
    return [
        (path, type(module), len(module._forward_hooks), len(module._forward_pre_hooks))
        for path, module in model.named_modules()
    ] + [(path, id(each), each.data_ptr()) for path, each in model.named_parameters()]


def test_loading_while_others_draw_changes_nothing_of_the_model(
    family: Callable[[], Any], folders: dict[str, Path]
) -> None:
    pipe = family()
    before = everything(component(pipe))
    pool = pool_of(pipe, folders, max_loaded=1)
    running, plain = pool.hold((INK,)), pool.hold(())
    with mixed([(1, running), (1, plain)]):
        first = forward(pipe, [1, 2])
    joined = pool.hold((OIL,))
    assert pool.loaded == ("ink", "oil")  # one more than may stay, for both are in use
    with mixed([(1, running), (1, plain)]):
        assert far(forward(pipe, [1, 2]), first) == 0.0
    with mixed([(1, joined)]):
        assert far(forward(pipe, [1]), first[:1]) > 1e-3
    assert everything(component(pipe)) == before


def test_a_forward_that_raises_leaves_no_hooks(unet_folders: dict[str, Path]) -> None:
    pipe = unet_pipe()
    before = everything(pipe.unet)
    hold = pool_of(pipe, unet_folders).hold((INK,))
    nothing = torch.zeros(2, 9, 8, 8), torch.zeros(2), torch.zeros(2, 5, 24)
    with pytest.raises(RuntimeError, match="channels"), mixed([(2, hold)]):
        pipe.unet(*nothing)
    assert everything(pipe.unet) == before


def test_a_forward_that_does_not_have_the_promised_rows_is_an_error(
    unet_folders: dict[str, Path],
) -> None:
    pipe = unet_pipe()
    pool = pool_of(pipe, unet_folders)
    hold = pool.hold((INK,))
    with mixed([(1, hold), (2, hold)]), pytest.raises(RowsNotFirst, match="sees 2 of 3 rows"):
        forward(pipe, [1, 2])
