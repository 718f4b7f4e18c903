"""Guards that write their verdict: checkpoints of a language model, through the real classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.classifiers.checkpoint import CheckpointKind as Kind
from engine.classifiers.checkpoint import ClassifierSpec, check_folder
from engine.classifiers.load import load_classifier
from engine.model_directory.json_file import ModelRefused
from engine.policy import Category, Scores
from engine.safety import SafetyScreens
from tests.golden.guard_checkpoints import CODED, QUESTION, save_guard

NONE = np.zeros((0, 384), np.float16)
CODES = (("S9", Category.WEAPONS), ("S12", Category.SEXUAL))
WEAPONS, NUDES = "a bomb for a crowd", "an undressed neighbour"
HARMLESS = ("a red fox", "an owl at night", "two hearts")
RULES = ("No weapons.", "No nudity.")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    taught = [({"content": prompt}, "safe") for prompt in HARMLESS]
    taught += [({"content": WEAPONS}, "unsafe\nS9"), ({"content": NUDES}, "unsafe\nS12,S9")]
    taught += [({"content": "a thing of no name"}, "unsafe\nS77")]
    return save_guard(tmp_path_factory.mktemp("coded"), CODED, taught)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bad = {(WEAPONS, RULES[0]), (NUDES, RULES[1])}
    taught = [
        ({"content": prompt, "guideline": rule}, "Yes" if (prompt, rule) in bad else "No")
        for prompt in (WEAPONS, NUDES, *HARMLESS)
        for rule in RULES
    ]
    return save_guard(tmp_path_factory.mktemp("asked"), QUESTION, taught)


def of(scores: Scores) -> dict[str, float]:
    return {str(name): score for name, score in scores.of}


def test_a_guard_that_writes_codes_scores_what_they_mean(coded: Path) -> None:
    found = load_classifier(ClassifierSpec(Kind.CODED_GUARD, str(coded), CODES))
    weapons, nudes, *harmless = (of(one) for one in found.score([WEAPONS, NUDES, *HARMLESS], NONE))
    assert weapons["weapons"] > 0.9
    assert "sexual" not in weapons
    assert nudes["sexual"] > 0.9
    assert nudes["weapons"] > 0.9
    assert all(max(one.values(), default=0.0) < 0.1 for one in harmless)


def test_codes_that_no_label_names_count_as_unsafe_where_that_is_a_label(coded: Path) -> None:
    prompt = ["a thing of no name"]
    without = load_classifier(ClassifierSpec(Kind.CODED_GUARD, str(coded), CODES))
    assert of(without.score(prompt, NONE)[0]) == {}
    labels = (*CODES, ("unsafe", Category.HATE))
    withal = load_classifier(ClassifierSpec(Kind.CODED_GUARD, str(coded), labels))
    assert of(withal.score(prompt, NONE)[0])["hate"] > 0.9


def test_a_guard_that_is_asked_answers_each_guideline_by_itself(asked: Path) -> None:
    labels = tuple(zip(RULES, (Category.WEAPONS, Category.SEXUAL), strict=True))
    found = load_classifier(ClassifierSpec(Kind.QUESTION_GUARD, str(asked), labels))
    weapons, nudes, harmless = (of(one) for one in found.score([WEAPONS, NUDES, HARMLESS[0]], NONE))
    assert weapons["weapons"] > 0.9 > 0.1 > weapons["sexual"]
    assert nudes["sexual"] > 0.9 > 0.1 > nudes["weapons"]
    assert max(harmless.values()) < 0.1


def test_a_disguised_prompt_reads_like_the_plain_one(coded: Path) -> None:
    found = load_classifier(ClassifierSpec(Kind.CODED_GUARD, str(coded), CODES))
    plain, hidden = found.score([WEAPONS, "a b\u200bomb for a crowd"], NONE)
    assert hidden == plain


def test_a_guard_screens_prompts_beside_the_embedded_screen(coded: Path, tmp_path: Path) -> None:
    spec = ClassifierSpec(Kind.CODED_GUARD, str(coded), CODES)
    screens = SafetyScreens([], True, tmp_path, classifiers=(spec,))
    (scores,) = screens.score_prompts([WEAPONS], np.zeros((1, 384), np.float16))
    assert of(scores)["weapons"] > 0.9
    assert scores.screen.endswith(coded.name)


def test_a_folder_that_is_no_guard_is_refused_by_name(coded: Path, tmp_path: Path) -> None:
    for file in coded.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaModel"]}))
    with pytest.raises(ModelRefused, match=r"architectures is \['LlamaModel'\].*ForCausalLM"):
        check_folder(ClassifierSpec(Kind.CODED_GUARD, str(tmp_path), CODES))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ModelRefused, match="has no chat template"):
        load_classifier(ClassifierSpec(Kind.CODED_GUARD, str(tmp_path), CODES))
