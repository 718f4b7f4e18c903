"""Checkpoint directories: what is read of a good one, exactly, and a sentence for each bad one."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.capabilities import capabilities
from engine.model_directory import files
from engine.model_directory.capacity import estimate_slots
from engine.model_directory.component import LoadedBy
from engine.model_directory.directory import ModelDirectory
from engine.model_directory.json_file import ModelRefused
from engine.model_directory.known import read_known
from engine.model_directory.known_class import KnownClass
from engine.model_directory.reader import read_model
from engine.model_directory.safetensors_header import HEADER_BYTES, read_header
from tests.stages.checkpoint_folders import (
    COMPONENT_BYTES,
    FLUX,
    QWEN,
    SANA,
    SDXL,
    VALUES,
    janus_folder,
    pipeline_folder,
    tensors,
    write_json,
)

KNOWN = {
    "StableDiffusionXLPipeline": KnownClass("diffusers", "sdxl", "unet", step=8, rows=2),
    "FluxPipeline": KnownClass("diffusers", "flux"),
    "QwenImagePipeline": KnownClass("diffusers", "qwen-image"),
    "SanaPipeline": KnownClass("diffusers", "sana", step=32, rows=2),
    "JanusForConditionalGeneration": KnownClass("janus", "janus", rows=2),
}
PIPELINES = {
    "StableDiffusionXLPipeline": SDXL,
    "FluxPipeline": FLUX,
    "QwenImagePipeline": QWEN,
    "SanaPipeline": SANA,
}
KIB = 1024


@pytest.fixture
def flux(tmp_path: Path) -> Path:
    return pipeline_folder(tmp_path / "flux", "FluxPipeline", FLUX)


def read(path: Path) -> ModelDirectory:
    return read_model(path, KNOWN)


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(ModelRefused) as refused:
        read(path)
    return refused.value.problems


@pytest.mark.parametrize(
    ("class_name", "edge", "tokens", "checkpoint_bytes"),
    [
        ("StableDiffusionXLPipeline", 1024, 128 * 128, 128 * KIB),
        ("FluxPipeline", 1024, 64 * 64, 512 * KIB),
        ("QwenImagePipeline", 1024, 64 * 64, 512 * KIB),
        ("SanaPipeline", 1024, 32 * 32, 3 * 64 * KIB),  # with two more of DPM++ 2M's history
    ],
)
def test_sizes_are_those_of_the_released_models(
    class_name: str, edge: int, tokens: int, checkpoint_bytes: int, tmp_path: Path
) -> None:
    path = pipeline_folder(tmp_path / "model", class_name, PIPELINES[class_name])
    found = read(path).geometry
    assert (found.edge, found.tokens, found.checkpoint_bytes) == (edge, tokens, checkpoint_bytes)
    assert (found.step, found.fixed) == (KNOWN[class_name].step, False)


def test_families_say_the_same_of_a_folder(tmp_path: Path) -> None:
    folders = {"janus": janus_folder(tmp_path / "janus")}
    for class_name, entries in PIPELINES.items():
        folders[class_name] = pipeline_folder(tmp_path / class_name, class_name, entries)
    for path in folders.values():
        model = read_known(path)
        can = capabilities(model.known.family, {"weights": str(path)})
        assert can.picture_size == (model.geometry.edge, model.geometry.edge)
        assert can.negative_prompt is model.known.abilities.negative_prompt
        able = model.known.abilities
        assert (can.draws, can.mask, can.strength) == (able.generate, able.inpaint, able.edit)
        changes = able.edit or able.inpaint or able.control
        assert can.input_images == (able.references or int(changes))
        row = KNOWN.get(model.class_name)
        assert row is not None
        assert (model.known.denoiser, model.known.step, model.known.rows) == (
            *(row.denoiser, row.step, row.rows),
        )


def test_each_component_has_its_bytes_by_dtype_and_who_loads_it(flux: Path) -> None:
    model = read(flux)
    assert {part.name: dict(part.bytes_by_dtype) for part in model.components} == {
        "scheduler": {},
        "text_encoder": {"F16": 24, "F32": 48},
        "text_encoder_2": {"F16": 24, "F32": 48},
        "tokenizer": {},
        "tokenizer_2": {},
        "transformer": {"F16": 24, "F32": 48},
        "vae": {"F16": 24, "F32": 48},
    }
    assert {part.name for part in model.components if part.loaded_by is LoadedBy.DECODER} == {
        *("scheduler", "transformer", "vae")
    }
    assert model.bytes_loaded_by(LoadedBy.DECODER) == 2 * COMPONENT_BYTES
    assert model.bytes_loaded_by(LoadedBy.ENCODER) == 2 * COMPONENT_BYTES


def test_janus_is_one_file_with_parts(tmp_path: Path) -> None:
    model = read(janus_folder(tmp_path / "janus"))
    assert (model.known.family, model.geometry.edge, model.geometry.fixed) == ("janus", 384, True)
    assert model.geometry.checkpoint_bytes == 576 * 2
    assert [(part.name, part.bytes) for part in model.components] == [
        ("language_model", COMPONENT_BYTES),
        ("lm_head", COMPONENT_BYTES),
        ("vqmodel", COMPONENT_BYTES),
        ("tokenizer", 0),
    ]
    assert len(model.files()) == 1


def test_slots_are_what_the_formula_says(tmp_path: Path, flux: Path) -> None:
    flux_slot = (64 * 64 + 512) * 24 * 128 * 18 * 2
    decode = 1024 * 1024 * 850 * 2
    found = estimate_slots(read(flux), 80 * 2**30)
    assert (found.slot_bytes, found.finish_bytes) == (flux_slot, decode)
    assert found.slots == int((0.9 * 80 * 2**30 - 2 * 2 * (VALUES + VALUES) - decode) / flux_slot)
    assert "4,608 tokens x 3,072 channels" in found.formula
    assert estimate_slots(read(flux), 2**30).slots == 0
    janus = estimate_slots(read(janus_folder(tmp_path / "janus")), 80 * 2**30)
    assert janus.slot_bytes == 2 * 2 * 24 * 2048 * (576 + 256 + 128) * 2
    sdxl = read(pipeline_folder(tmp_path / "sdxl", "StableDiffusionXLPipeline", SDXL))
    assert estimate_slots(sdxl, 80 * 2**30).slot_bytes == 2 * 128 * 128 * 320 * 26 * 2


def test_an_identity_is_of_headers_and_a_digest_of_every_byte(tmp_path: Path, flux: Path) -> None:
    again = pipeline_folder(tmp_path / "copy", "FluxPipeline", FLUX)
    first = read(flux)
    assert (first.identity(), first.digest()) == (read(again).identity(), read(again).digest())
    weights = again / "vae/diffusion_pytorch_model.safetensors"
    save_file({name: -tensor for name, tensor in tensors().items()}, weights)
    assert read(again).identity() == first.identity()
    assert read(again).digest() != first.digest()
    write_json(again / "scheduler/scheduler_config.json", {"shift": 1.0})
    assert read(again).identity() != first.identity()


def test_shards_and_variants_are_found(flux: Path) -> None:
    folder = flux / "transformer"
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    places = {}
    for number in (1, 2):
        name = f"diffusion_pytorch_model-0000{number}-of-00002.safetensors"
        save_file(tensors(f"{number}."), folder / name)
        places |= dict.fromkeys(tensors(f"{number}."), name)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    write_json(index, {"metadata": {}, "weight_map": places})
    (flux / "vae/diffusion_pytorch_model.safetensors").rename(
        flux / "vae/diffusion_pytorch_model.fp16.safetensors"
    )
    model = read(flux)
    assert model.component("transformer").bytes == 2 * COMPONENT_BYTES
    assert len(model.component("transformer").files) == 2
    assert (model.component("vae").variant, model.component("transformer").variant) == (
        *("fp16", None),
    )


def test_a_plain_file_is_taken_before_its_variant(flux: Path) -> None:
    whole = flux / "vae/diffusion_pytorch_model.safetensors"
    save_file({"a": np.ones(1, np.float16)}, whole.with_suffix(".fp16.safetensors"))
    assert read(flux).component("vae").bytes == COMPONENT_BYTES


def test_a_hub_cache_is_links_into_its_blobs(tmp_path: Path) -> None:
    real = pipeline_folder(tmp_path / "real", "FluxPipeline", FLUX)
    hub = tmp_path / "models--a--flux"
    snapshot = hub / "snapshots/0f1e2d"
    (hub / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in real.rglob("*") if path.is_file())):
        blob, link = hub / f"blobs/{number:040x}", snapshot / file.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        file.rename(blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    model = read(snapshot)
    assert model.bytes_loaded_by(LoadedBy.DECODER) == 2 * COMPONENT_BYTES
    vae = snapshot / "vae/diffusion_pytorch_model.safetensors"
    vae.resolve().unlink()
    found = problems(snapshot)
    assert "vae/diffusion_pytorch_model.safetensors: is a link to" in found[0]


def test_what_no_replica_loads_need_not_be_there(flux: Path) -> None:
    index = json.loads((flux / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    write_json(flux / "model_index.json", index)
    assert read(flux).not_loaded == ("safety_checker",)


def edit(name: str, **fields: object) -> Callable[[Path], object]:
    """Fields of a JSON file, replaced."""

    def broken(root: Path) -> None:
        document = json.loads((root / name).read_text())
        write_json(root / name, document | fields)

    return broken


def put(name: str, data: bytes = b"x") -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(data)


def gone(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def cut(root: Path) -> None:
    os.truncate(root / VAE, (root / VAE).stat().st_size - 5)


def longer(root: Path) -> None:
    with (root / VAE).open("ab") as file:
        file.write(b"12345")


def two_variants(root: Path) -> None:
    (root / VAE).rename(root / "vae/diffusion_pytorch_model.fp16.safetensors")
    save_file(tensors(), root / "vae/diffusion_pytorch_model.bf16.safetensors")


def mixed_variants(root: Path) -> None:
    (root / VAE).rename(root / "vae/diffusion_pytorch_model.fp16.safetensors")
    stem = "transformer/diffusion_pytorch_model"
    (root / f"{stem}.safetensors").rename(root / f"{stem}.bf16.safetensors")


def dangling(root: Path) -> None:
    (root / "README.md").symlink_to("nowhere")


VAE = "vae/diffusion_pytorch_model.safetensors"
INDEX = "vae/diffusion_pytorch_model.safetensors.index.json"
REFUSED = [
    (put("vae/model.bin"), "vae/model.bin: is a pickle", "convert it to safetensors"),
    (put("a.pt"), "a.pt: is a pickle", "delete it"),
    (put("a.PTH"), "a.PTH: is a pickle", "delete it"),
    (put("vae/a.ckpt"), "a.ckpt: is a pickle", "delete it"),
    (put("vae/a.pkl"), "a.pkl: is a pickle", "delete it"),
    (put("transformer/model.py"), "model.py: is code", "code in a model folder is never run"),
    (dangling, "README.md: is a link to nowhere, which is not there", "download it again"),
    (lambda root: os.mkfifo(root / "pipe"), "pipe: is neither a file nor", "delete it"),
    (edit("model_index.json", _class_name=["my", "Flux"]), "a file of the model's", "stock class"),
    (edit("model_index.json", _class_name="WanPipeline"), "'WanPipeline' is not run", "SanaPipe"),
    (edit("model_index.json", _class_name="JanusForConditionalGeneration"), "is not run", "Flux"),
    (edit("model_index.json", vae=["my_vae", "Vae"]), "vae must be a class of", "is never run"),
    (edit("model_index.json", vae=["diffusers"]), "vae must be a class of", "is never run"),
    (edit("model_index.json", **{"../x": ["diffusers", "X"]}), "'../x' is no name", "take it out"),
    (edit("model_index.json", vae=[None, None]), "names no vae", "download the whole"),
    (
        edit("model_index.json", text_encoder=[None, None], text_encoder_2=[None, None]),
        *("names no text encoder", "download the whole pipeline"),
    ),
    (edit("model_index.json", extra=["diffusers", "UNet"]), "extra: is missing", "download it"),
    (gone("vae/config.json"), "vae: has no config.json", "download it"),
    (gone("scheduler/scheduler_config.json"), "has no scheduler_config.json", "download it"),
    (gone("tokenizer/tokenizer.json"), "tokenizer: has no tokenizer.json or vocab", "download it"),
    (gone(VAE), "vae: has no diffusion_pytorch_model.safetensors", "convert the weights"),
    (two_variants, "vae: has the variants bf16, fp16 and no plain", "keep one"),
    (mixed_variants, "has parts of the variants bf16, fp16", "keep one"),
    (cut, f"{VAE}: is cut off: its header promises 72 bytes", "67 are there; copy it again"),
    (longer, f"{VAE}: has 5 bytes that no tensor names", "copy it again"),
    (put(VAE, b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer", "git lfs pull"),
    (put(VAE, b""), f"{VAE}: is cut off inside of its header", "copy it again"),
    (put(INDEX, b'{"weight_map": {"a": "b.safetensors"}}'), "the shard b.safetensors", "download"),
    (put(INDEX, b'{"weight_map": {"a": "../vae/x"}}'), "the shard ../vae/x", "download it"),
    (put(INDEX, b'{"weight_map": {"a": 1}}'), "weight_map must name", "download it again"),
    (
        put(INDEX, b'{"weight_map": {"zz": "diffusion_pytorch_model.safetensors"}}'),
        *("holds zz, which is not there", "download both again"),
    ),
    (put("vae/config.json", b"{"), "vae/config.json: not JSON", "copy it again"),
    (put("vae/config.json", b"[1]"), "must hold a JSON object", "copy it again"),
    (put("vae/config.json", b"\xff"), "vae/config.json: not JSON", "copy it again"),
    (put("vae/config.json", b"[" * 100_000), "nested too deeply", "copy it again"),
    (put("vae/config.json", b"{" + b" " * 2**24), "is larger than 16,777,216 bytes", "take it out"),
    (edit("vae/config.json", auto_map={"AutoModel": "m.M"}), "auto_map asks for code", "never run"),
    (edit("vae/config.json", a=[{"trust_remote_code": True}]), "trust_remote_code asks", "stock"),
    (edit("vae/config.json", _class_name=["m", "V"]), "vae/config.json: _class_name", "never run"),
    (edit("vae/config.json", latent_channels="16"), "vae/config.json: latent_channels", "number"),
    (edit("transformer/config.json", patch_size=0), "transformer/config.json: patch_si", "number"),
]


@pytest.mark.parametrize(("broken", "said", "advice"), REFUSED, ids=[r[1] for r in REFUSED])
def test_what_cannot_be_served_is_refused_in_one_sentence(
    broken: Callable[[Path], object], said: str, advice: str, flux: Path
) -> None:
    broken(flux)
    [problem] = problems(flux)
    assert problem.startswith(str(flux))
    assert said in problem
    assert advice in problem
    assert "\n" not in problem


def test_all_problems_are_told_at_once(flux: Path) -> None:
    for broken in (put("a.bin"), gone("vae/config.json"), cut, gone("tokenizer/tokenizer.json")):
        broken(flux)
    assert len(problems(flux)) == 3  # a folder without a config is not looked into further


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda path: None, "does not exist; name the folder"),
        (lambda path: path.write_bytes(b""), "is no directory; name the folder"),
        (lambda path: path.mkdir(), "has neither model_index.json nor config.json"),
    ],
)
def test_what_is_no_checkpoint_is_said(
    made: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    made(tmp_path / "model")
    [problem] = problems(tmp_path / "model")
    assert said in problem


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("config.json", {"architectures": ["LlamaForCausalLM"]}, "'LlamaForCausalLM' is not run"),
        ("config.json", {"architectures": []}, "architectures must name one class"),
        ("config.json", {"vq_config": None}, "config.json: vq_config must be an object"),
        ("generation_config.json", {"generation_kwargs": {}}, "boi_token_id is missing"),
    ],
)
def test_a_wrong_folder_of_janus_is_refused(
    name: str, fields: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = janus_folder(tmp_path / "janus")
    edit(name, **fields)(path)
    [problem] = problems(path)
    assert said in problem


def header(document: object) -> bytes:
    text = json.dumps(document).encode() if not isinstance(document, bytes) else document
    return struct.pack("<Q", len(text)) + text


def tensor(shape: list[object], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("<Q", 2**63) + b"{}", "9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", HEADER_BYTES + 1) + b"{}", "at most 16,777,216 are read"),
        (struct.pack("<Q", 100) + b"{}", "is cut off inside of its header"),
        (b"\x80\x02}q", "is cut off inside of its header"),
        (header(b'{"a":' * 200_000), "nested too deeply"),
        (header(b"[]"), "must hold a JSON object"),
        (header(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (header({"a": 1}), "entry 'a' is not a tensor"),
        (header({"a": tensor([2], 0, 4)}) + b"1234", "entry 'a' is not a tensor"),
        (header({"a": tensor([-1], 0, 4)}) + b"1234", "entry 'a' is not a tensor"),
        (header({"a": tensor([True], 0, 4)}) + b"1234", "entry 'a' is not a tensor"),
        (header({"a": tensor([2**62] * 60, 0, 4)}) + b"1234", "entry 'a' is not a tensor"),
        (header({"a": tensor([1] * 65, 0, 4)}) + b"1234", "entry 'a' is not a tensor"),
        (header({"a": tensor([1], 0, 4, "PICKLE")}) + b"1234", "entry 'a' is not a tensor"),
        (header({"a": tensor([1], 4, 8)}) + b"12345678", "overlap or leave holes at byte 0"),
        (
            header({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}) + b"1234",
            "overlap or leave holes at byte 4",
        ),
        (header({"a": tensor([2**40], 0, 2**42)}), "promises 4,398,046,511,104 bytes"),
    ],
)
def test_a_hostile_header_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelRefused) as refused:
        read_header(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_every_dtype_that_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    kinds = (np.bool_, np.uint8, np.int16, np.uint32, np.float16, np.float64, np.complex64)
    arrays = {kind.__name__: np.zeros((2, 3), kind) for kind in kinds}
    save_file(arrays | {"scalar": np.zeros((), np.int64), "none": np.zeros((0, 9), np.int8)}, path)
    found = read_header(path).bytes_by_dtype()
    assert sum(found.values()) == sum(array.nbytes for array in arrays.values()) + 8
    assert (found["C64"], found["BOOL"], found["I64"], found["I8"]) == (48, 6, 8, 0)


def test_links_in_a_circle_and_very_many_files_are_no_endless_search(
    flux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (flux / "loop").symlink_to(flux)
    assert read(flux).path == flux
    monkeypatch.setattr(files, "MOST_FILES", 5)
    [problem] = problems(flux)
    assert "holds more than 5 files; name the folder of one checkpoint" in problem


def test_no_tensor_library_is_loaded() -> None:
    code = (
        "import sys, engine.model_directory.known,"
        " engine.model_directory.capacity\n"
        "sys.exit(len({'torch', 'numpy', 'safetensors', 'diffusers', 'transformers'}"
        " & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
