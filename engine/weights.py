"""Weights folders: safetensors files beside a `model.json` that says what they must be.

Nothing here unpickles. A file that is missing, cut off or not the one the manifest names raises
WeightsError with its path and what is wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from engine.text import WeightsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")
MANIFEST = "model.json"
LAYOUT = 1


@dataclass(frozen=True)
class WeightsFolder:
    """A folder whose manifest was read and understood; files are read when asked for."""

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> WeightsFolder:
        """Reads the manifest; WeightsError when it is missing, broken or of another layout."""
        manifest_path = path / MANIFEST
        try:
            manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        except OSError as error:
            raise WeightsError(f"{manifest_path}: {error.strerror}") from error
        except ValueError as error:
            raise WeightsError(f"{manifest_path}: not JSON ({error})") from error
        if not isinstance(manifest, dict) or manifest.get("layout") != LAYOUT:
            raise WeightsError(f"{manifest_path}: field layout must be {LAYOUT}")
        return cls(path, manifest)

    def field(self, name: str) -> Any:
        """A field of the manifest; WeightsError naming it when it is not there."""
        if name not in self.manifest:
            raise WeightsError(f"{self.path / MANIFEST}: field {name} is missing")
        return self.manifest[name]

    def config(self, kind: type[C], name: str) -> C:
        """A config dataclass from the manifest's `config.<name>`; WeightsError names the field."""
        stored = self.field("config").get(name)
        known = {field.name for field in fields(kind)}
        if not isinstance(stored, dict) or stored.keys() != known:
            where = f"{self.path / MANIFEST}: field config.{name}"
            raise WeightsError(f"{where} must have exactly {', '.join(sorted(known))}")
        lists = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
        return kind(**lists)

    def sha256(self, part: str) -> str:
        """The digest that the manifest pins for `part`, e.g. "transformer"."""
        try:
            return str(self.field("files")[part]["sha256"])
        except (KeyError, TypeError):
            raise WeightsError(
                f"{self.path / MANIFEST}: field files.{part}.sha256 is missing"
            ) from None

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of `part`.safetensors as float32, once their digest has been checked."""
        path = self.path / f"{part}.safetensors"
        expected = self.sha256(part)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"{path}: {error.strerror}") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != expected:
            raise WeightsError(
                f"{path}: sha256 is {digest[:16]}..., field files.{part}.sha256 says "
                f"{expected[:16]}..."
            )
        try:
            return {name: tensor.float() for name, tensor in load(data).items()}
        except SafetensorError as error:
            raise WeightsError(f"{path}: not a safetensors file ({error})") from error

    def fill(self, module: nn.Module, part: str, prefix: str = "") -> None:
        """Load `part` into `module`; of the tensors whose name starts with `prefix`, cut off."""
        found = {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors(part).items()
            if name.startswith(prefix)
        }
        try:
            module.load_state_dict(found)
        except RuntimeError as error:  # torch names every missing, unexpected or misshapen tensor
            raise WeightsError(f"{self.path / part}.safetensors: {error}") from error
