"""The janus family keeps what every family promises, and draws token for token what transformers'
own `generate` draws from the same checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import JanusForConditionalGeneration, JanusProcessor

from engine.decoder import Decoder, OutOfMemory, RenderRejected
from engine.decoders.device_memory import device_memory
from engine.decoders.janus.decoder import JanusDecoder
from engine.decoders.janus.network import continued
from engine.decoders.janus.sampling import uniforms
from engine.engine import DecoderEngine
from engine.footprint import DoesNotFit
from engine.measuring import measured
from engine.model_directory.capacity import GIB
from engine.model_directory.json_file import ModelRefused
from engine.registry import create_decoder
from engine.render import Checkpoint, Conditioning, RenderSpec, Source, UpdateKind
from engine.text import WeightsError
from tests.golden.decoder_contract import (
    BOI,
    BOS,
    PASSES,
    DecoderContract,
    Heard,
    assert_same,
    conditioning,
    draw,
    spec,
)
from tests.golden.janus_checkpoint import PAD, save_tiny

CELLS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return save_tiny(tmp_path_factory.mktemp("janus"))


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    return JanusForConditionalGeneration.from_pretrained(folder, local_files_only=True).eval()


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy, for a test to damage."""
    return Path(shutil.copytree(folder, tmp_path / "damaged"))


def tokens(packed: bytes) -> list[int]:
    return np.frombuffer(Checkpoint.from_bytes(packed).state, "<u2").tolist()  # type: ignore[no-any-return]


def final_tokens(heard: Heard, render_id: str) -> list[int]:
    checkpoints = heard.checkpoints(render_id)
    return tokens(checkpoints[max(checkpoints)])


def stock_tokens(stock: Any, asked: RenderSpec) -> list[int]:
    """What `generate` draws, the likeliest token each time."""
    ids = torch.tensor(asked.conditioning.numpy("input_ids")[None].copy())
    drawn = stock.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_mode="image",
        guidance_scale=asked.guidance,
        do_sample=False,
    )
    return drawn[0].tolist()  # type: ignore[no-any-return]


@torch.inference_mode()
def slow_tokens(stock: Any, asked: RenderSpec) -> list[int]:
    """What `asked` draws at temperature 1, reading everything anew for every token."""
    ids = torch.tensor(asked.conditioning.numpy("input_ids").copy())
    nothing = torch.where((ids == BOS) | (ids == BOI), ids, PAD)
    words = stock.get_input_embeddings()(torch.stack((ids, nothing)))
    drawn: list[int] = []
    for chance in uniforms(asked.seed, CELLS):
        image = torch.tensor([drawn, drawn], dtype=torch.int64)
        read = torch.cat((words, stock.prepare_embeddings_for_image_generation(image)), dim=1)
        hidden = stock.model.language_model(inputs_embeds=read).last_hidden_state[:, -1]
        prompted, unprompted = stock.model.generation_head(hidden)
        guided = asked.guidance * prompted + (1 - asked.guidance) * unprompted
        below = guided.softmax(dim=-1).cumsum(dim=-1)
        drawn.append(int((below <= chance).sum()))
    return drawn


class TestJanus(DecoderContract):
    @pytest.fixture
    def make_decoder(self, folder: Path) -> Callable[[], Decoder]:
        return lambda: create_decoder("janus", weights=folder, slots=4, threads=1)


class TestHalfPrecision(DecoderContract):
    @pytest.fixture
    def make_decoder(self, folder: Path) -> Callable[[], Decoder]:
        return lambda: JanusDecoder(folder, slots=4, threads=1, dtype="bfloat16")


FOUR = [
    spec("first", passes=16, guidance=5.0, conditioning=conditioning(1, 4)),
    spec("second", passes=5, guidance=3.0, conditioning=conditioning(2, 1)),
    spec("third", passes=3, guidance=5.0, conditioning=conditioning(3, 30)),
    spec("fourth", passes=1, guidance=7.5, conditioning=conditioning(4, 6)),
]


def test_four_prompts_in_three_slots_draw_what_stock_draws(folder: Path, stock: Any) -> None:
    heard = Heard()
    engine = DecoderEngine(JanusDecoder(folder, slots=3, temperature=0.0), 3, heard)
    for asked in FOUR:
        while not engine.free_slots:
            engine.step()
        engine.add(asked)
        engine.step()
        engine.step()
    assert engine.drain()
    engine.stop()
    for asked in FOUR:
        assert final_tokens(heard, asked.render_id) == stock_tokens(stock, asked)


def test_resumed_from_its_tokens_it_draws_what_stock_draws(folder: Path, stock: Any) -> None:
    asked = spec(passes=16, guidance=5.0, conditioning=conditioning(1, 4))
    expected = stock_tokens(stock, asked)
    decoder = JanusDecoder(folder, temperature=0.0)
    for drawn in (1, 7, 15, 16):
        state = np.array(expected[:drawn], "<u2").tobytes()
        packed = Checkpoint(decoder.model, drawn, asked.seed, state)
        render = decoder.begin(asked, packed)
        for _ in range(16 - drawn):
            decoder.step([render])
        assert tokens(decoder.checkpoint(render).to_bytes()) == expected


@pytest.mark.parametrize("guidance", [1.0, 0.5, 3.0])
def test_fast_equals_slow(folder: Path, stock: Any, guidance: float) -> None:
    decoder = JanusDecoder(folder)
    for seed in range(5):
        asked = spec(seed=seed, guidance=guidance)
        heard = draw(decoder, asked, spec("other", 40, 4), spec("another", 41, 9, guidance=1.0))
        assert final_tokens(heard, "mine") == slow_tokens(stock, asked)


def test_forwards_of_one_width_change_nothing(folder: Path) -> None:
    """As on a GPU, where long prompts are read in pieces and short ones with padding."""
    decoder = JanusDecoder(folder, slots=3)
    decoder._least_tokens = decoder._most_tokens = 6
    widths = set()
    read = decoder.network.read

    def watched(embeddings: torch.Tensor, places: Any) -> torch.Tensor:
        widths.add(len(embeddings))
        return read(embeddings, places)

    decoder.network.read = watched  # type: ignore[method-assign]
    long = spec(conditioning=conditioning(1, 40))
    whole = draw(JanusDecoder(folder), long)
    heard = draw(decoder, spec("other", 3, 4, guidance=1.0), long, spec("third", 2, 9))
    assert_same(heard, whole)
    assert_same(
        draw(
            decoder, spec(conditioning=long.conditioning, checkpoint=heard.checkpoints("mine")[3])
        ),
        whole,
    )
    assert widths == {6}


def test_the_picture_is_that_of_stock(folder: Path, stock: Any) -> None:
    """But for rounding: stock cuts off."""
    heard = draw(JanusDecoder(folder), spec())
    drawn = torch.tensor([final_tokens(heard, "mine")])
    with torch.inference_mode():
        values = stock.decode_image_tokens(drawn)[0].permute(2, 0, 1)
    processor = JanusProcessor.from_pretrained(folder, local_files_only=True)
    expected = np.array(processor.postprocess([values])["pixel_values"][0]).transpose(1, 2, 0)
    assert expected.std() > 10
    assert np.abs(heard.pixels("mine").astype(int) - expected.astype(int)).max() <= 1


def test_guidance_of_one_draws_without_the_pair(folder: Path) -> None:
    decoder = JanusDecoder(folder)
    assert len(decoder.begin(spec(guidance=1.0), None).rows) == 1
    assert len(decoder.begin(spec(guidance=1.1), None).rows) == 2


def test_a_render_that_leaves_gives_its_rows_back_at_once(folder: Path) -> None:
    """Two slots: were a row kept, the third render would find none."""
    decoder = JanusDecoder(folder, slots=2)
    alone = draw(JanusDecoder(folder), spec())
    mine, dropped = decoder.begin(spec(), None), decoder.begin(spec("dropped", 1), None)
    decoder.step([dropped, mine])
    decoder.drop(dropped)
    later = decoder.begin(spec("later", 2, 2), None)
    for _ in range(2):
        decoder.step([later, mine])
    again = decoder.begin(spec("again", 3, 1), None)
    decoder.step([mine, again])
    while mine.pass_no < PASSES:
        decoder.step([mine])
    assert decoder.checkpoint(mine).to_bytes() == alone.checkpoints("mine")[PASSES]


def test_more_renders_than_slots_are_no_bug_of_a_render(folder: Path) -> None:
    """The engine goes on with as many as there is room for; the newest goes on elsewhere."""
    decoder = JanusDecoder(folder, slots=2)
    asked = [spec(f"{seed}", seed) for seed in range(3)]
    heard = draw(decoder, *asked, slots=3)
    ended = {each.render_id: heard.kinds(each.render_id)[-1] for each in asked}
    assert ended == {"0": UpdateKind.DONE, "1": UpdateKind.DONE, "2": UpdateKind.LEFT}
    assert_same(heard, draw(JanusDecoder(folder), asked[0]), "0")


def test_a_checkpoint_has_two_bytes_a_token(folder: Path) -> None:
    heard = draw(JanusDecoder(folder), spec())
    states = [Checkpoint.from_bytes(each).state for each in heard.checkpoints("mine").values()]
    assert [len(state) for state in states] == [6, 12, 18, 24, 28, 32]


def test_another_temperature_is_another_model(folder: Path) -> None:
    """A checkpoint of one must not go on with the other."""
    zero, half, one = (JanusDecoder(folder, temperature=t).model for t in (0, 0.5, 1))
    assert len({zero, half, one}) == 3
    assert one == JanusDecoder(folder).model


def test_previews_go_from_blurry_to_clear(folder: Path) -> None:
    heard = draw(JanusDecoder(folder), spec(passes=16, preview_after=tuple(range(1, 16))))
    final = heard.pixels("mine").astype(float)
    shown = [u.preview for u in heard.updates["mine"] if u.preview is not None]
    errors = [float(np.abs(preview - final).mean()) for preview in shown]
    assert errors[0] > errors[7] > errors[-1] > 0


def test_what_is_not_drawn_goes_on_as_it_was_ever_more_blurred() -> None:
    """Latents of stripes: down the undrawn rows, ever less of them is left."""
    stripes = torch.tensor([1.0, -1.0] * 4).expand(1, 1, 8, 8)
    found = continued(stripes.clone(), drawn=24, rounds=8)
    assert torch.equal(found[:, :, :3], stripes[:, :, :3])
    left = found[0, 0, 3:].std(dim=-1)
    assert left[0] < 0.5
    assert (left[:-1] > 2 * left[1:]).all()


def test_what_it_cannot_draw_is_named(folder: Path) -> None:
    decoder = JanusDecoder(folder)
    picture = Source(np.zeros((16, 16, 3), np.uint8), np.ones(CELLS, np.bool_))
    for asked, name in (
        (spec(source=picture), "source"),
        (spec(guidance=0.0), "guidance"),
        (spec(passes=17), "passes"),
        (spec(conditioning=conditioning(1, 300)), "prompt"),
        (spec(conditioning=Conditioning.from_numpy("", input_ids=np.array([1, 320]))), "prompt"),
        (spec(conditioning=Conditioning({}, "")), "conditioning"),
    ):
        with pytest.raises(RenderRejected, match=name):
            decoder.plan(asked)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling_janus.py"])
def test_pickles_and_code_are_refused(damaged: Path, name: str) -> None:
    (damaged / name).write_bytes(b"")
    with pytest.raises(ValueError, match=name):
        JanusDecoder(damaged)


def test_missing_tensors_are_named(damaged: Path) -> None:
    weights = load_file(damaged / "model.safetensors")
    del weights["model.generation_head.proj_out.weight"]
    save_file(weights, damaged / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"generation_head\.proj_out\.weight"):
        JanusDecoder(damaged)


@pytest.mark.parametrize(
    ("file", "change", "name"),
    [
        ("generation_config.json", {"generation_kwargs": {}}, "boi_token_id"),
        ("generation_config.json", {"pad_token_id": None}, "pad_token_id"),
        ("config.json", {"architectures": ["Emu3ForConditionalGeneration"]}, "Emu3"),
        ("processor_config.json", {"image_processor": {"image_mean": 0.5}}, "image_mean"),
    ],
)
def test_a_wrong_field_is_named(damaged: Path, file: str, change: Any, name: str) -> None:
    path = damaged / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelRefused, match=name) as refused:
        JanusDecoder(damaged)
    assert str(path) in str(refused.value)


def test_a_render_whose_numbers_are_none_fails_alone(folder: Path) -> None:
    decoder = JanusDecoder(folder)
    alone = draw(decoder, spec(passes=4))
    table = decoder.network._language.get_input_embeddings().weight
    with torch.inference_mode():
        table[319] = torch.nan
    broken = Conditioning.from_numpy("", input_ids=np.array([BOS, 319, BOI]))
    heard = draw(decoder, spec(passes=4), spec("broken", conditioning=broken), spec("next", 8))
    assert heard.kinds("broken") == [UpdateKind.ACCEPTED, UpdateKind.FAILED]
    assert_same(heard, alone)
    assert heard.kinds("next")[-1] is UpdateKind.DONE
    assert decoder._cache.in_use == []


@pytest.mark.parametrize("passes_before", [0, 2])
def test_out_of_memory_is_said_in_the_engines_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, passes_before: int
) -> None:
    decoder = JanusDecoder(folder)
    kept = [decoder.begin(spec(), None) for _ in range(passes_before)]
    read = decoder.network.read

    def failing(*args: Any) -> Any:
        read(*args)
        return torch.empty(2**62, dtype=torch.uint8)  # more than any machine has

    monkeypatch.setattr(decoder.network, "read", failing)
    with pytest.raises(OutOfMemory, match="guidance"):
        decoder.step(kept) if kept else decoder.begin(spec(), None)
    monkeypatch.undo()
    for render in kept:
        decoder.drop(render)
    assert decoder._cache.in_use == []
    assert_same(draw(decoder, spec()), draw(JanusDecoder(folder), spec()))


def test_options_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="dtype"):
        JanusDecoder(folder, dtype="int8")
    with pytest.raises(ValueError, match="temperature"):
        JanusDecoder(folder, temperature=-1.0)
    with pytest.raises(ValueError, match="slots"):
        JanusDecoder(folder, slots=0)


def test_it_is_measured_token_by_token(folder: Path) -> None:
    decoder = JanusDecoder(folder, slots=4)
    report = measured(decoder, 4)
    assert report.seconds.keys() == {1, 2, 4}
    assert report.pass_seconds_of(CELLS) == pytest.approx(report.pass_seconds)
    assert report.pass_seconds_of(1) == pytest.approx(report.pass_seconds * CELLS)
    whole, token = (decoder.plan(spec(passes=passes)).pass_seconds for passes in (1, CELLS))
    assert whole == pytest.approx(token * CELLS)
    assert token == pytest.approx(report.seconds[1])
    assert_same(draw(decoder, spec()), draw(JanusDecoder(folder, slots=4), spec()))


def test_a_cache_that_finds_no_room_is_refused_with_what_would_fit(folder: Path) -> None:
    beside = device_memory(torch.device("cpu")).held() / GIB
    with pytest.raises(DoesNotFit, match=r"slots: 100000 do not fit: .* \d+ would fit"):
        JanusDecoder(folder, slots=100_000, memory_gib=beside + 0.5)
