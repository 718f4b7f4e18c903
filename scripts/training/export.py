"""Writes a weights folder: float16 safetensors, the gallery and the manifest that pins them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.weights import LAYOUT, MANIFEST
from scripts.training.concepts import Concept
from scripts.training.editions import Edition

GALLERY_COLUMNS = 20


def write_part(folder: Path, part: str, module: nn.Module) -> dict[str, Any]:
    """`part`.safetensors in float16; returns its entry of the manifest."""
    tensors: dict[str, Tensor] = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in module.state_dict().items()
    }
    path = folder / f"{part}.safetensors"
    save_file(tensors, path)
    path.chmod(0o644)
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_gallery(folder: Path, references: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """All reference pictures on one sheet, in concept order, row by row."""
    size = references[0].shape[0]
    rows = -(-len(references) // GALLERY_COLUMNS)
    sheet = np.full((rows * size, GALLERY_COLUMNS * size, 3), 255, np.uint8)
    for index, picture in enumerate(references):
        top, left = index // GALLERY_COLUMNS * size, index % GALLERY_COLUMNS * size
        sheet[top : top + size, left : left + size] = picture
    path = folder / "gallery.webp"
    Image.fromarray(sheet).save(path, quality=90, method=6)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "columns": GALLERY_COLUMNS, "sha256": digest}


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
    concepts: Sequence[Concept],
    modules: Mapping[str, nn.Module],
    references: Sequence[NDArray[np.uint8]],
) -> None:
    """Everything but the screen; an entry of the screen that is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(folder)
    manifest |= {
        "layout": LAYOUT,
        "name": edition.name,
        "config": {"codec": asdict(edition.codec), "transformer": asdict(edition.transformer)},
        "files": {part: write_part(folder, part, module) for part, module in modules.items()},
        "gallery": write_gallery(folder, references),
        "concepts": [concept.name for concept in concepts],
        "weapons": [concept.name for concept in concepts if concept.category == "weapons"],
    }
    write_manifest(folder, manifest)
