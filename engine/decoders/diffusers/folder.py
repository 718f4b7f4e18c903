"""What a checkpoint's JSON files say of its pictures. No tensor library is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.decoders.diffusers.table import (
    ARCHITECTURES,
    CLASSES,
    Architecture,
    UnknownPipeline,
    pipeline_class,
)
from engine.model_directory.geometry import number, vae_scale
from engine.model_directory.json_file import ModelRefused, read_object

INDEX = "model_index.json"
GUIDANCE_EMBEDDED = ("flux", "flux-fill")
"""Architectures whose transformer says by `guidance_embeds` whether it takes a scale."""
SAMPLE_SIZE = 128
"""Cells of the latents on each side where a checkpoint does not say it: 1024 pixels."""


@dataclass(frozen=True, slots=True)
class PipelineFolder:
    """A folder in the format of diffusers whose class is run here."""

    path: Path
    class_name: str
    index: dict[str, Any]
    """Of model_index.json."""

    @classmethod
    def open(cls, path: Path) -> PipelineFolder:
        """ModelRefused naming the file and what to do, UnknownPipeline naming the class."""
        index = read_object(path / INDEX)
        name = index.get("_class_name")
        if not isinstance(name, str):
            raise ModelRefused(f"{path / INDEX}: _class_name must be the name of a pipeline class")
        try:
            pipeline_class(name)
        except UnknownPipeline as error:
            raise UnknownPipeline(f"{path / INDEX}: {error}") from None
        return cls(path, name, index)

    @property
    def architecture(self) -> Architecture:
        """Of its class."""
        return ARCHITECTURES[CLASSES[self.class_name].architecture]

    @property
    def components(self) -> list[str]:
        """Names of those that the folder has; of the others the entry is [null, null]."""
        return [name for name, entry in self.index.items() if _is_there(entry)]

    @property
    def guided(self) -> bool:
        """Whether a scale of guidance changes its pictures: not those of some distilled ones.
        ModelRefused."""
        if self.index.get("is_distilled"):
            return False
        embedded = CLASSES[self.class_name].architecture in GUIDANCE_EMBEDDED
        return not embedded or bool(self._config("transformer").get("guidance_embeds"))

    def edge(self) -> int:
        """Pixels on each side of the checkpoint's own pictures. ModelRefused, OddConfig."""
        denoiser = next(name for name in self.architecture.denoisers if name in self.components)
        vae = next(name for name in ("vae", "vqvae") if name in self.components)
        cells = number(self._config(denoiser), "sample_size", default=SAMPLE_SIZE)
        edge, multiple = cells * vae_scale(self._config(vae)), self.architecture.size_multiple
        return max(multiple, edge - edge % multiple)

    def _config(self, component: str) -> dict[str, Any]:
        return read_object(self.path / component / "config.json")


def _is_there(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and entry[0] is not None
