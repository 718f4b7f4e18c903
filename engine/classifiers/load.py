"""The classifier of each kind of checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from engine.classifiers.checkpoint import CheckpointKind, ClassifierSpec
from engine.classifiers.guards import CodedGuard, QuestionGuard
from engine.classifiers.hugging_face import PictureClassifier, TextClassifier, ZeroShotClassifier

Loaded = TextClassifier | CodedGuard | QuestionGuard | PictureClassifier
_CLASSES: Mapping[CheckpointKind, type[Loaded]] = {
    CheckpointKind.TEXT: TextClassifier,
    CheckpointKind.CODED_GUARD: CodedGuard,
    CheckpointKind.QUESTION_GUARD: QuestionGuard,
    CheckpointKind.IMAGE: PictureClassifier,
    CheckpointKind.ZERO_SHOT: ZeroShotClassifier,
}


def load_classifier(spec: ClassifierSpec) -> Loaded:
    """The classifier of a checkpoint. ModelRefused."""
    return _CLASSES[spec.kind](spec)
