"""Writes a weights folder: float16 safetensors, the gallery and the manifest that pins them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.remembering import Bank
from engine.scene import LOOKS
from engine.weights import LAYOUT, MANIFEST
from scripts.training.compose import SpriteSheet
from scripts.training.dataset import Pictures
from scripts.training.editions import Edition
from scripts.training.meanings import Meanings

GALLERY_COLUMNS = 60


def write_part(folder: Path, part: str, module: nn.Module) -> dict[str, Any]:
    """`part`.safetensors in float16; returns its entry of the manifest."""
    tensors: dict[str, Tensor] = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in module.state_dict().items()
    }
    return write_tensors(folder, part, tensors)


def write_tensors(folder: Path, part: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """`part`.safetensors as they are; returns its entry of the manifest."""
    path = folder / f"{part}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(0o644)
    return _entry(path)


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_words(folder: Path, meanings: Meanings) -> dict[str, dict[str, Any]]:
    """words.tsv and meanings.safetensors; returns their entries of the manifest."""
    path = folder / "words.tsv"
    path.write_text("\n".join(meanings.lines) + "\n", encoding="utf-8")
    said = meanings.sayings
    vectors = {"parts": _in_bytes(said.parts), "wholes": _in_bytes(said.wholes)}
    rows = torch.from_numpy(said.rows.astype("int32"))
    entry = write_tensors(folder, "meanings", {**vectors, "rows": rows})
    return {"words": _entry(path), "meanings": entry}


def _in_bytes(vectors: NDArray[np.float32]) -> Tensor:
    """The directions of [rows, n] as int8: each row's largest number becomes 127."""
    scaled = vectors / np.abs(vectors).max(axis=1, keepdims=True) * 127
    return torch.from_numpy(np.rint(scaled).astype(np.int8))


def write_gallery(folder: Path, sprites: SpriteSheet, concepts: int) -> dict[str, Any]:
    """The small sprites of all concepts in every look on one sheet with straight alpha, concept by
    concept, row by row: what evaluations compare with."""
    side = sprites.size // 2
    rows = -(-concepts * len(LOOKS) // GALLERY_COLUMNS)
    sheet = np.zeros((rows * side, GALLERY_COLUMNS * side, 4), np.uint8)
    for index in range(concepts * len(LOOKS)):
        concept, look = divmod(index, len(LOOKS))
        sprite = sprites.small.get((concept, look), sprites.small[concept, 0])
        alpha = np.maximum(sprite[..., 3:], 1).astype(np.float32)
        straight = np.minimum(255, sprite[..., :3] / alpha * 255 + 0.5).astype(np.uint8)
        top, left = index // GALLERY_COLUMNS * side, index % GALLERY_COLUMNS * side
        sheet[top : top + side, left : left + side] = np.dstack([straight, sprite[..., 3]])
    path = folder / "gallery.webp"
    Image.fromarray(sheet).save(path, quality=85, method=6)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "columns": GALLERY_COLUMNS, "side": side, "sha256": digest}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest as far as it is written; an empty one to begin with."""
    path = folder / MANIFEST
    return dict(json.loads(path.read_text())) if path.exists() else {"layout": LAYOUT}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def export(
    folder: Path,
    edition: Edition,
    pictures: Pictures,
    modules: Mapping[str, nn.Module],
    memory: Bank,
    meanings: Meanings,
) -> None:
    """Everything but the screen; an entry of the screen that is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest, concepts = read_manifest(folder), pictures.concepts
    files = {part: write_part(folder, part, module) for part, module in modules.items()}
    bank = {"large": memory.large, "small": memory.small}
    files |= {"bank": write_tensors(folder, "bank", bank)} | write_words(folder, meanings)
    manifest |= {
        "layout": LAYOUT,
        "name": edition.name,
        "config": {
            "codec": asdict(edition.codec),
            "transformer": asdict(edition.transformer),
            "enlarger": asdict(edition.enlarger),
        },
        "files": manifest.get("files", {}) | files,
        "gallery": write_gallery(folder, pictures.sprites, len(concepts)),
        "concepts": [concept.name for concept in concepts],
        "turns": [int(concept.turns) for concept in concepts],
        "weapons": [concept.name for concept in concepts if concept.category == "weapons"],
    }
    write_manifest(folder, manifest)
