"""The prompt screen: one logistic head per category over the text encoder's pooled embedding, plus
the word list. Numpy only; the embedding is computed anyway, so a verdict costs microseconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from engine.policy import DEFAULT_POLICY, Category, Look, Scores, ScreenStage, calibrated
from engine.prompt_words import WordList
from engine.verdict import ScreenUnusable, Verdict

WEIGHTS = Path(__file__).with_name("prompt_screen.safetensors")
WORDS = Path(__file__).with_name("prompt_words.txt")
EMBEDDING_WIDTH = 384


def unit(pooled: NDArray[np.floating]) -> NDArray[np.float32]:
    """[..., 384] -> float32 of length 1, as the heads read it: length says little about meaning."""
    wide = np.asarray(pooled, dtype=np.float32)
    norm = np.linalg.norm(wide, axis=-1, keepdims=True)
    return cast(NDArray[np.float32], wide / np.maximum(norm, np.float32(1e-6)))


@dataclass(frozen=True, slots=True)
class PromptHeads:
    """The trained part. C categories: weight float32 [C, 384], bias and threshold float32 [C]."""

    categories: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    threshold: NDArray[np.float32]
    encoder: str
    """Which text encoder the heads were trained on (its weights' sha256)."""

    def scores(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """[B, 384] unit embeddings -> [B, C] probabilities."""
        logits = embeddings @ self.weight.T + self.bias
        return cast(NDArray[np.float32], 1.0 / (1.0 + np.exp(-logits, dtype=np.float32)))

    def save(self, path: Path) -> None:
        """Write the file `load` reads, with a digest of its content in the metadata."""
        tensors = self._tensors()
        metadata = {
            "categories": json.dumps(self.categories),
            "encoder": self.encoder,
            "sha256": _digest(tensors, self.categories, self.encoder),
        }
        save_file(tensors, path, metadata)

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"bias": self.bias, "threshold": self.threshold, "weight": self.weight}

    @classmethod
    def load(cls, path: Path) -> PromptHeads:
        """Read and check the file; ScreenUnusable names path and field when anything is off."""
        tensors, metadata = _read(path)
        for name in ("categories", "encoder", "sha256"):
            if name not in metadata:
                raise ScreenUnusable(path, f"metadata.{name}", "missing")
        try:
            categories = tuple(str(name) for name in json.loads(metadata["categories"]))
        except (ValueError, TypeError) as error:
            raise ScreenUnusable(path, "metadata.categories", str(error)) from error
        count = len(categories)
        wanted = {"weight": (count, EMBEDDING_WIDTH), "bias": (count,), "threshold": (count,)}
        for name, shape in wanted.items():
            _require_tensor(path, name, tensors.get(name), shape)
        heads = cls(categories, encoder=metadata["encoder"], **{n: tensors[n] for n in wanted})
        digest = _digest(heads._tensors(), categories, heads.encoder)
        if digest != metadata["sha256"]:
            raise ScreenUnusable(path, "metadata.sha256", "the content does not match it")
        return heads


def _read(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    if not path.is_file():
        raise ScreenUnusable(path, "file", "missing")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ScreenUnusable(path, "file", f"not a safetensors file ({error})") from error


def _require_tensor(
    path: Path, name: str, tensor: NDArray[np.float32] | None, shape: tuple[int, ...]
) -> None:
    if tensor is None:
        raise ScreenUnusable(path, name, "missing")
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise ScreenUnusable(
            path, name, f"is {tensor.dtype}{list(tensor.shape)}, expected float32{list(shape)}"
        )
    if not np.isfinite(tensor).all():
        raise ScreenUnusable(path, name, "holds a value that is not finite")


def _digest(
    tensors: Mapping[str, NDArray[np.float32]], categories: Sequence[str], encoder: str
) -> str:
    digest = hashlib.sha256(json.dumps([list(categories), encoder]).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).tobytes())
    return digest.hexdigest()


class PromptScreen:
    """Scores prompts. Stateless after loading; safe to call from any thread."""

    name = "prompt"

    def __init__(self, path: Path = WEIGHTS, words: Path = WORDS) -> None:
        """Load weights and word list; ScreenUnusable when either is missing or broken."""
        self.heads = PromptHeads.load(path)
        self.words = WordList.load(words)

    def score(self, prompts: Sequence[str], embeddings: NDArray[np.floating]) -> list[Scores]:
        """Those of each prompt, in order; embeddings: [prompts, 384], see TextEncoder.embed."""
        if len(prompts) != len(embeddings):
            raise ValueError(f"{len(prompts)} prompts with {len(embeddings)} embeddings")
        scores = self.heads.scores(unit(embeddings))
        return [self._scores(prompt, row) for prompt, row in zip(prompts, scores, strict=True)]

    def screen(self, prompts: Sequence[str], embeddings: NDArray[np.floating]) -> list[Verdict]:
        """What the presets of the policy make of them."""
        look = Look(ScreenStage.PROMPT)
        return [DEFAULT_POLICY.decide(one, look) for one in self.score(prompts, embeddings)]

    def _scores(self, prompt: str, row: NDArray[np.float32]) -> Scores:
        heads = self.heads
        found = {
            Category(name): calibrated(score, threshold)
            for name, score, threshold in zip(
                heads.categories, row.tolist(), heads.threshold.tolist(), strict=True
            )
        }
        for name, score in self.words.find(prompt).items():
            found[Category(name)] = max(score, found.get(Category(name), 0.0))
        return Scores(tuple(found.items()), self.name)
