"""Classifiers of operators: checkpoints that transformers wrote, through the real classes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, pipeline

from engine.classifiers.checkpoint import CheckpointKind as Kind
from engine.classifiers.checkpoint import ClassifierSpec, check_folder, spec_of
from engine.classifiers.load import load_classifier
from engine.model_directory.json_file import ModelRefused
from engine.policy import Category, Scores, calibrated
from engine.safety import SafetyScreens
from engine.worker import CallLimits, Worker, WorkerBroken
from tests.golden.classifier_checkpoints import save_clip, save_picture, save_text

NONE = np.zeros((0, 384), np.float16)
TOXIC = (("toxic", Category.HATE),)
PICTURES = [
    np.random.default_rng(seed).integers(0, 256, (size, size + 8, 3), dtype=np.uint8)
    for seed, size in enumerate((96, 24, 512))
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_picture(tmp_path_factory.mktemp("picture"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


def of(scores: Scores) -> dict[str, float]:
    return {str(name): score for name, score in scores.of}


def test_a_text_classifier_says_what_the_pipeline_of_transformers_says(text: Path) -> None:
    found = load_classifier(ClassifierSpec(Kind.TEXT, str(text), TOXIC, 0.3))
    prompts = ["a red fox", "a photo of the nude woman", "gun gun gun"]
    stock = pipeline("text-classification", model=str(text), top_k=None)
    scores = [of(one)["hate"] for one in found.score(prompts, NONE)]
    assert len({round(score, 4) for score in scores}) == 3
    for prompt, score in zip(prompts, scores, strict=True):
        (answer,) = [row["score"] for row in stock([prompt])[0] if row["label"] == "toxic"]
        assert score == pytest.approx(calibrated(answer, 0.3), abs=1e-5)


def test_a_disguised_prompt_reads_like_the_plain_one(text: Path) -> None:
    found = load_classifier(ClassifierSpec(Kind.TEXT, str(text), TOXIC))
    plain, hidden = found.score(["a nude woman", "a nu\u200bde w0m4n"], NONE)
    assert hidden == plain


def test_words_behind_the_first_window_count(text: Path) -> None:
    """The highest score of any window counts, so more words never score less."""
    found = load_classifier(ClassifierSpec(Kind.TEXT, str(text), TOXIC))
    filler, window = "a red fox " * 20, "gun " * 30
    texts = [filler, window, filler + window * 3]
    before, alone, after = (of(one)["hate"] for one in found.score(texts, NONE))
    assert alone > before
    assert after >= alone - 1e-4


def test_labels_that_stand_apart_are_not_added_up(tmp_path: Path) -> None:
    save_text(tmp_path, ("hate", "threat"), problem_type="multi_label_classification")
    labels = (("hate", Category.HATE), ("threat", Category.HATE))
    found = load_classifier(ClassifierSpec(Kind.TEXT, str(tmp_path), labels))
    stock = pipeline("text-classification", model=str(tmp_path), top_k=None)
    highest = max(row["score"] for row in stock(["a nude woman"])[0])
    assert of(found.score(["a nude woman"], NONE)[0])["hate"] == pytest.approx(highest, abs=1e-5)


def test_a_picture_classifier_says_what_the_pipeline_of_transformers_says(picture: Path) -> None:
    labels = (("nsfw", Category.SEXUAL), ("gore", Category.VIOLENCE))
    found = load_classifier(ClassifierSpec(Kind.IMAGE, str(picture), labels))
    scores = [of(one) for one in found.score(PICTURES)]
    logits = [found._logits(found._read([one])).softmax(dim=1)[0].tolist() for one in PICTURES]
    for row, (_, nsfw, gore) in zip(scores, logits, strict=True):
        assert row == pytest.approx({"sexual": nsfw, "violence": gore}, abs=1e-5)
    assert len({row["sexual"] for row in scores}) == 3
    assert found.score([]) == []


def test_a_clip_scores_the_labels_that_the_operator_wrote(clip: Path) -> None:
    labels = (("a photo of a gun", Category.WEAPONS), ("the gun", Category.WEAPONS),
              ("a nude woman", Category.SEXUAL), ("a harmless picture", None))  # fmt: skip
    found = load_classifier(ClassifierSpec(Kind.ZERO_SHOT, str(clip), labels))
    scores = [of(one) for one in found.score(PICTURES)]
    for picture, row in zip(PICTURES, scores, strict=True):
        shares = _stock_clip(clip, picture, [label for label, _ in labels])
        assert row == pytest.approx(
            {"weapons": shares[0] + shares[1], "sexual": shares[2]}, abs=1e-4
        )
        assert 0 < sum(row.values()) < 1


def _stock_clip(folder: Path, picture: np.ndarray, labels: list[str]) -> list[float]:
    """As the model's own forward puts it."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    read = AutoTokenizer.from_pretrained(folder)(labels, padding=True, return_tensors="pt")
    pixels = AutoImageProcessor.from_pretrained(folder)(images=[picture], return_tensors="pt")
    with torch.inference_mode():
        answer = CLIPModel.from_pretrained(folder)(**read, **pixels).logits_per_image
    found: list[float] = answer.softmax(dim=1)[0].tolist()
    return found


def test_the_operators_classifiers_speak_beside_the_embedded_ones(
    text: Path, picture: Path, tmp_path: Path
) -> None:
    specs = (ClassifierSpec(Kind.TEXT, str(text), TOXIC),
             ClassifierSpec(Kind.IMAGE, str(picture), (("gore", Category.VIOLENCE),)))  # fmt: skip
    screens = SafetyScreens(["sexual"], True, tmp_path, classifiers=specs)
    (prompt,) = screens.score_prompts(["a swastika"], np.zeros((1, 384), np.float16))
    assert prompt.screen == f"prompt+{text.name}"
    assert of(prompt)["hate"] == 1.0
    (scores,) = screens.score_images(PICTURES[:1])
    assert scores.screen == f"sexual+{picture.name}"
    assert set(of(scores)) == {"sexual", "violence"}


def test_a_killed_process_of_a_checkpoint_is_replaced(text: Path, tmp_path: Path) -> None:
    arguments = {"screens": [], "prompt": False, "weights": str(tmp_path),
                 "classifiers": (ClassifierSpec(Kind.TEXT, str(text), TOXIC),)}  # fmt: skip
    worker = Worker("engine.safety:SafetyScreens", arguments, CallLimits())
    try:
        ask = ("score_prompts", ["a nude woman"], np.zeros((1, 384), np.float16))
        before, first = worker.pid, worker.call(*ask)
        assert before is not None
        os.kill(before, 9)
        assert worker.call(*ask) == first
        assert worker.pid != before
    finally:
        worker.close()


def test_a_process_does_not_start_with_a_folder_that_is_not_there(tmp_path: Path) -> None:
    spec = ClassifierSpec(Kind.IMAGE, str(tmp_path / "none"), (("gore", Category.VIOLENCE),))
    with pytest.raises(WorkerBroken, match=r"none: does not exist; name the folder"):
        Worker("engine.safety:SafetyScreens", {
            "screens": [], "prompt": False, "weights": str(tmp_path), "classifiers": (spec,)
        })  # fmt: skip


def refused(folder: Path, kind: Kind = Kind.TEXT, labels: object = TOXIC) -> str:
    with pytest.raises(ModelRefused) as caught:
        check_folder(ClassifierSpec(kind, str(folder), labels))  # type: ignore[arg-type]
    return str(caught.value)


def test_pickles_code_and_remote_code_are_refused_by_name(tmp_path: Path) -> None:
    save_text(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "modeling.py").write_text("")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "m.M"}}))
    said = refused(tmp_path)
    assert f"{tmp_path}/pytorch_model.bin: is a pickle" in said
    assert f"{tmp_path}/modeling.py: is code" in said
    assert f"{tmp_path}/config.json: auto_map asks for code" in said


def test_a_tokenizer_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    save_text(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": "x"}}))
    assert "tokenizer_config.json: auto_map asks for code" in refused(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path, text: Path) -> None:
    save_text(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert f"{tmp_path}: has no model.safetensors" in refused(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert "has none of tokenizer.json" in refused(tmp_path)
    assert "a classifier of kind image is a ForImageClassification" in refused(text, Kind.IMAGE)
    assert "has no label 'rude', its labels are ok, toxic" in refused(
        text, labels=(("rude", Category.HATE),)
    )


def test_a_checkpoint_without_a_trained_head_is_refused(tmp_path: Path, text: Path) -> None:
    """transformers would fill it with noise."""
    save_text(tmp_path)
    kept = (tmp_path / "config.json").read_text()
    config = BertConfig.from_pretrained(text)
    BertModel(config).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(kept)
    with pytest.raises(ModelRefused, match=r"lacks the weights classifier\.bias"):
        load_classifier(ClassifierSpec(Kind.TEXT, str(tmp_path), TOXIC))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"labels": {"x": "gore"}}, r"labels\.x: unknown category 'gore', known: sexual, minors"),
        ({"labels": {"x": "harmless"}}, r"labels\.x: unknown category 'harmless'"),
        ({"labels": {}}, "labels: must map at least one label"),
        ({"threshold": 1.5}, "threshold: must be above 0 and below 1, not 1.5"),
        ({"kind": "zero-shot"}, "labels: must map at least one label to harmless"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_by_its_field(
    entry: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        spec_of({"kind": "text", "path": "/m", "labels": {"x": "hate"}} | entry)


def test_an_entry_becomes_a_spec() -> None:
    entry = {"kind": "zero-shot", "path": "/models/clip", "labels": {"a gun": "weapons",
             "a tree": "harmless"}, "threshold": 0.7}  # fmt: skip
    labels = (("a gun", Category.WEAPONS), ("a tree", None))
    assert spec_of(entry) == ClassifierSpec(Kind.ZERO_SHOT, "/models/clip", labels, 0.7)
