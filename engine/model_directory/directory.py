"""What was found in a checkpoint directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.model_directory.component import Component, LoadedBy
from engine.model_directory.geometry import Geometry
from engine.model_directory.known_class import KnownClass
from engine.model_directory.safetensors_header import SafetensorsFile


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A checkpoint that can be served, as far as its configs and headers tell."""

    path: Path
    class_name: str
    """`_class_name` of the pipeline, or the architecture of the model."""
    known: KnownClass
    config: Mapping[str, Any]
    """Of model_index.json or config.json."""
    components: tuple[Component, ...]
    not_loaded: tuple[str, ...]
    """Components that the directory names and no replica loads."""
    geometry: Geometry

    def component(self, name: str) -> Component:
        """By its name. KeyError."""
        return {component.name: component for component in self.components}[name]

    def bytes_loaded_by(self, by: LoadedBy) -> int:
        """Of the tensors that such a replica loads, as they are stored."""
        return sum(part.bytes for part in self.components if part.loaded_by is by)

    def bytes_in_bfloat16(self, by: LoadedBy) -> int:
        """As they take memory on a GPU."""
        return sum(part.bytes_in_bfloat16 for part in self.components if part.loaded_by is by)

    def files(self) -> tuple[SafetensorsFile, ...]:
        """Every safetensors file that is loaded, once, in the order of the paths."""
        found = {file.path: file for part in self.components for file in part.files}
        return tuple(found[path] for path in sorted(found))

    def identity(self) -> str:
        """sha256 over the name, size and header of every loaded file, and over the configs; read
        within milliseconds. Other weights of the same names, dtypes and shapes, such as a finer
        tuned copy, have the same identity: where that matters, take `digest`."""
        parts = [(part.name, part.class_name, part.config) for part in self.components]
        files = [
            (str(file.path.relative_to(self.path)), file.size_bytes, file.header_sha256)
            for file in self.files()
        ]
        whole = json.dumps([self.class_name, self.config, parts, files], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def digest(self) -> str:
        """sha256 over `identity` and every byte of every loaded file: equal only for equal weights.
        Reads them all: about a second a gigabyte, a minute for 60 GB. OSError."""
        whole = hashlib.sha256(self.identity().encode())
        for file in self.files():
            with file.path.open("rb") as data:
                whole.update(hashlib.file_digest(data, "sha256").digest())
        return whole.hexdigest()
