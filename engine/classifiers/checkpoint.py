"""A classifier's folder, checked by its JSON files and safetensors headers: nothing is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from engine.model_directory.component import VOCABULARIES
from engine.model_directory.files import refused_files
from engine.model_directory.json_file import ModelRefused, read_object
from engine.model_directory.weights import read_weights
from engine.policy import OWN_LINE, Category

HARMLESS = "harmless"
"""What a label of a zero-shot classifier that means no category is mapped to."""
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


class CheckpointKind(StrEnum):
    """What a checkpoint classifies, and how."""

    TEXT = "text"
    CODED_GUARD = "coded-guard"  # prompts, by a language model that writes `unsafe` and codes
    QUESTION_GUARD = "question-guard"  # prompts, by one that says Yes or No to a guideline
    IMAGE = "image"
    ZERO_SHOT = "zero-shot"  # pictures, by labels that the operator writes


OF_PROMPTS = (CheckpointKind.TEXT, CheckpointKind.CODED_GUARD, CheckpointKind.QUESTION_GUARD)
_ARCHITECTURE = {
    CheckpointKind.TEXT: "ForSequenceClassification",
    CheckpointKind.CODED_GUARD: "ForCausalLM",
    CheckpointKind.QUESTION_GUARD: "ForCausalLM",
    CheckpointKind.IMAGE: "ForImageClassification",
    CheckpointKind.ZERO_SHOT: "CLIPModel",
}
"""How the class that wrote config.json must end."""
_FILES = {
    CheckpointKind.TEXT: (VOCABULARIES,),
    CheckpointKind.CODED_GUARD: (VOCABULARIES,),
    CheckpointKind.QUESTION_GUARD: (VOCABULARIES,),
    CheckpointKind.IMAGE: (_PROCESSORS,),
    CheckpointKind.ZERO_SHOT: (VOCABULARIES, _PROCESSORS),
}
"""Of each row, one file must be there."""


@dataclass(frozen=True, slots=True)
class ClassifierSpec:
    """One checkpoint of an operator.

    labels: the checkpoint's own labels, of a coded guard the codes that it writes, or for zero-shot
    and question guards the operator's, each with the category that it means. Labels of the
    checkpoint that are not named count for nothing; zero-shot needs some that are HARMLESS, since
    the probabilities of its labels add up to 1.
    threshold: 0..1, the probability from which on a category is blocked by the presets.
    """

    kind: CheckpointKind
    path: str
    labels: tuple[tuple[str, Category | None], ...]
    threshold: float = OWN_LINE

    @property
    def name(self) -> str:
        """As verdicts name it: the folder's."""
        return Path(self.path).name


def spec_of(document: Mapping[str, Any]) -> ClassifierSpec:
    """From a config's entry. ValueError, beginning with the field."""
    kind = CheckpointKind(document["kind"])
    labels = tuple(
        (label, _category(kind, label, name)) for label, name in document["labels"].items()
    )
    if not any(category for _, category in labels):
        raise ValueError("labels: must map at least one label to a category")
    if kind is CheckpointKind.ZERO_SHOT and all(category for _, category in labels):
        raise ValueError(
            f"labels: must map at least one label to {HARMLESS}, such as 'a harmless picture': "
            "the probabilities of all labels add up to 1"
        )
    threshold = float(document.get("threshold", OWN_LINE))
    if not 0 < threshold < 1:
        raise ValueError(f"threshold: must be above 0 and below 1, not {threshold:g}")
    return ClassifierSpec(kind, str(document["path"]), labels, threshold)


def check_folder(spec: ClassifierSpec) -> dict[str, Any]:
    """The config of a checkpoint that can be loaded. ModelRefused with everything that is wrong, by
    path: missing, pickles, code, cut-off weights, another kind, labels that it does not have."""
    root = Path(spec.path)
    if not os.path.isdir(root):
        raise ModelRefused(f"{root}: does not exist; name the folder of a downloaded checkpoint")
    problems = refused_files(root)
    try:
        config = read_object(root / "config.json")
        problems += _odd_files(spec, root)
        problems += _odd_config(spec, root / "config.json", config)
        if not problems:
            read_weights(root, "transformers")
    except ModelRefused as error:
        raise ModelRefused(*problems, *error.problems) from None
    if problems:
        raise ModelRefused(*problems)
    return config


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """A checkpoint's own labels, in the order of its outputs."""
    found = config.get("id2label") or {}
    return tuple(str(found[key]) for key in sorted(found, key=int))


def _category(kind: CheckpointKind, label: str, name: str) -> Category | None:
    if name == HARMLESS and kind is CheckpointKind.ZERO_SHOT:
        return None
    known = [str(category) for category in Category]
    if name not in known:
        raise ValueError(f"labels.{label}: unknown category {name!r}, known: {', '.join(known)}")
    return Category(name)


def _odd_files(spec: ClassifierSpec, root: Path) -> list[str]:
    """Also reads the JSON of tokenizer and processor, which could ask for code. ModelRefused."""
    for name in ("tokenizer_config.json", *_PROCESSORS):
        if (root / name).exists():
            read_object(root / name)
    return [
        f"{root}: has none of {', '.join(names)}; download the whole checkpoint"
        for names in _FILES[spec.kind]
        if not any((root / name).exists() for name in names)
    ]


def _odd_config(spec: ClassifierSpec, path: Path, config: Mapping[str, Any]) -> list[str]:
    found = [str(name) for name in config.get("architectures") or ()]
    ending = _ARCHITECTURE[spec.kind]
    if not found or not found[0].endswith(ending):
        return [
            f"{path}: architectures is {found}, and a classifier of kind {spec.kind} is a "
            f"{ending}; name another folder or another kind"
        ]
    if spec.kind not in (CheckpointKind.TEXT, CheckpointKind.IMAGE):
        return []
    known = labels_of(config)
    return [
        f"{path}: has no label {label!r}, its labels are {', '.join(known)}; correct labels"
        for label, _ in spec.labels
        if label not in known
    ]
