"""Classifiers from checkpoints of transformers: of texts, of pictures, and of pictures by labels
that the operator writes (CLIP). Weights come from safetensors alone; code of a folder is never run.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    CLIPModel,
)

from engine.classifiers.checkpoint import ClassifierSpec, check_folder, labels_of
from engine.disguise import undisguised
from engine.model_directory.json_file import ModelRefused
from engine.policy import Category, Scores, calibrated, joined
from engine.prompt_encoder import Embeddings
from engine.render import Pixels

TOGETHER = 8
"""Texts or pictures that go through the network at once."""
LOCAL = {"local_files_only": True, "trust_remote_code": False}
_LONGEST = 512
"""Tokens of one window of a prompt, where the tokenizer names no limit."""
_MULTI_LABEL = "multi_label_classification"


class _Checkpoint(ABC):
    """A loaded network and what its labels mean. ModelRefused when it cannot be loaded whole."""

    model_class: ClassVar[Any]

    def __init__(self, spec: ClassifierSpec) -> None:
        config = check_folder(spec)
        self.spec = spec
        self.model = load_network(self.model_class, spec)
        self.labels = self._labels(config)
        self._apart = config.get("problem_type") == _MULTI_LABEL or len(self.labels) == 1

    def _labels(self, config: Mapping[str, Any]) -> list[Category | None]:
        """The category of each output."""
        meant = dict(self.spec.labels)
        return [meant.get(label) for label in labels_of(config)]

    def _scores(self, logits: Tensor) -> list[Scores]:
        """[B, labels] -> those of each row. Labels that exclude each other add up; of labels that
        stand apart, the highest counts."""
        logits = logits.float()
        shares = (logits.sigmoid() if self._apart else logits.softmax(dim=1)).tolist()
        return [self._row(row) for row in shares]

    def _row(self, row: Sequence[float]) -> Scores:
        found: dict[Category, float] = {}
        for category, share in zip(self.labels, row, strict=True):
            if category is not None:
                before = found.get(category, 0.0)
                found[category] = max(before, share) if self._apart else before + share
        threshold = self.spec.threshold
        of = tuple((name, calibrated(min(1.0, s), threshold)) for name, s in found.items())
        return Scores(of, self.spec.name)


class TextClassifier(_Checkpoint):
    """Text classification, of prompts without their disguise. A prompt that is longer than the
    network reads is read in windows, and the highest score of each category counts."""

    model_class = AutoModelForSequenceClassification

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        self._tokenizer = AutoTokenizer.from_pretrained(spec.path, **LOCAL)
        positions = getattr(self.model.config, "max_position_embeddings", _LONGEST)
        self._longest = min(self._tokenizer.model_max_length, positions, _LONGEST)

    @torch.inference_mode()
    def score(self, prompts: Sequence[str], embeddings: Embeddings) -> list[Scores]:
        """See PromptClassifier; the embeddings are not read."""
        if not prompts:
            return []
        read = self._tokenizer(
            [undisguised(prompt) for prompt in prompts],
            truncation=True,
            max_length=self._longest,
            stride=self._longest // 8,
            return_overflowing_tokens=True,
            padding=True,
            return_tensors="pt",
        )
        owners = read.pop("overflow_to_sample_mapping").tolist()
        windows = [
            one
            for at in range(0, len(owners), TOGETHER)
            for one in self._scores(
                self.model(**{k: v[at : at + TOGETHER] for k, v in read.items()}).logits
            )
        ]
        return [
            joined(one for one, owner in zip(windows, owners, strict=True) if owner == number)
            for number in range(len(prompts))
        ]


class PictureClassifier(_Checkpoint):
    """Image classification."""

    model_class = AutoModelForImageClassification

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        self._processor = AutoImageProcessor.from_pretrained(spec.path, **LOCAL)

    @torch.inference_mode()
    def score(self, pixels: Sequence[Pixels]) -> list[Scores]:
        """See ImageClassifier."""
        return [
            one
            for at in range(0, len(pixels), TOGETHER)
            for one in self._scores(self._logits(self._read(pixels[at : at + TOGETHER])))
        ]

    def _read(self, pixels: Sequence[Pixels]) -> Tensor:
        pictures = [np.ascontiguousarray(picture) for picture in pixels]
        read: Tensor = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
        return read

    def _logits(self, read: Tensor) -> Tensor:
        found: Tensor = self.model(pixel_values=read).logits
        return found


class ZeroShotClassifier(PictureClassifier):
    """How near a picture is to each of the operator's labels, by a CLIP; all shares add up to 1."""

    model_class = CLIPModel

    @torch.inference_mode()
    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec)
        tokenizer = AutoTokenizer.from_pretrained(spec.path, **LOCAL)
        texts = [label for label, _ in spec.labels]
        read = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        self._texts = _unit(self.model.get_text_features(**read))  # [labels, width]

    def _labels(self, config: Mapping[str, Any]) -> list[Category | None]:
        return [category for _, category in self.spec.labels]

    def _logits(self, read: Tensor) -> Tensor:
        pictures = _unit(self.model.get_image_features(pixel_values=read))
        found: Tensor = self.model.logit_scale.exp() * pictures @ self._texts.T
        return found


def load_network(model_class: Any, spec: ClassifierSpec, dtype: Any = torch.float32) -> Any:
    """Every weight that the network has must be in the files: what is missing would be noise.
    ModelRefused."""
    try:
        model, info = model_class.from_pretrained(
            spec.path, use_safetensors=True, output_loading_info=True, dtype=dtype, **LOCAL
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelRefused(f"{spec.path}: cannot be loaded ({error})") from error
    absent = sorted(info["missing_keys"])
    odd = [str(entry[0]) for entry in info.get("mismatched_keys", ())]
    if absent or odd:
        raise ModelRefused(
            f"{spec.path}: lacks the weights {', '.join((absent + odd)[:3])}; "
            "name a checkpoint that was trained for this"
        )
    return model.eval()


def _unit(features: Any) -> Tensor:
    """Features as transformers answers them, of length 1."""
    tensor: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    unit: Tensor = tensor / tensor.norm(dim=-1, keepdim=True)
    return unit
