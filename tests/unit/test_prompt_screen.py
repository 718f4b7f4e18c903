from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.disguise import decoded, plain, undisguised
from engine.policy import Category, Scores
from engine.prompt_screen import WEIGHTS, WORDS, PromptHeads, PromptScreen
from engine.prompt_words import WordList
from engine.safety import SafetyScreens
from engine.verdict import ScreenUnusable, Verdict, merge
from tests.fuzz.prompts import ADVERSARIAL


@pytest.fixture(scope="module")
def words() -> WordList:
    return WordList.load(WORDS)


@pytest.fixture(scope="module")
def screen() -> PromptScreen:
    return PromptScreen()


def embeddings(*rows: np.ndarray) -> np.ndarray:
    return np.stack(rows).astype(np.float16)


@pytest.mark.parametrize(
    "spelling",
    [
        "a swastika",
        "SWASTIKA!",
        "Sw4st1ka",
        "$wa$tika",
        "s w a s t i k a",
        "s.w.a.s.t.i.k.a on a flag",
        "swaaaastika",
        "swás\u0301tika",
        "swas\u200btika",
        "swas\u00adtika",
        "s_w_a_s_t_i_k_a",
        "__s_w_a_s_t_i_k_a__",
        "swas\u0301\u0316\u0301tika",
        "swastika\ufdfa" * 2,
        "ｓｗａｓｔｉｋａ",  # noqa: RUF001
        "ѕwаѕtіkа",  # noqa: RUF001
    ],
)
def test_a_spelling_trick_does_not_hide_a_listed_word(words: WordList, spelling: str) -> None:
    assert words.find(spelling) == {"hate": 1.0}


@pytest.mark.parametrize("prompt", ["KKK", "1488", "14 88 on a shirt", "xxx"])
def test_a_listed_word_of_digits_or_repeated_letters_is_found(words: WordList, prompt: str) -> None:
    assert words.find(prompt)


@pytest.mark.parametrize(
    "prompt",
    ["a nude child", "erotic, teen", "15-year-old in lingerie", "17 yo, sexy", "s3xy k1d", "loli"],
)
def test_a_minor_with_a_sexual_word_is_found(words: WordList, prompt: str) -> None:
    assert "minors" in words.find(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "a naked mole rat and its baby",
        "a kid goat in sexy sunglasses",
        "a child with a balloon",
        "a 25 year old in lingerie",
        "vitamin k",
        "a suicide prevention poster",
        "gorey, a writer",
        "a lollipop",
        "a b c d e f",
        "",
        "\u200b\u0301",
    ],
)
def test_a_word_inside_another_or_an_allowed_phrase_is_let_through(
    words: WordList, prompt: str
) -> None:
    assert words.find(prompt) == {}


@pytest.mark.parametrize(
    "prompt",
    [
        "g u n", "a g u n", "g.u.n", "p*rn", "n a c k t e r  m a n n", "h e n t a i g i r l",
        "cDBybiBwb3Ju", "cG9ybiBwaWN0dXJl", "706f726e2070696374757265", "%70%6f%72%6e", "p0rn",
    ],
)  # fmt: skip
def test_a_word_in_disguise_is_certain(words: WordList, prompt: str) -> None:
    assert max(words.find(prompt).values()) == 1.0


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        ("ein nacktes mädchen", "minors"),
        ("13-jährige in dessous", "minors"),
        ("nackte frau am strand", "sexual"),
        ("mann mit geladener pistole", "weapons"),
        ("verstümmelte leiche", "violence"),
        ("selbstmordversuch", "self-harm"),
        ("Angela Merkel auf einem einhorn", "real-persons"),
    ],
)
def test_german_words_are_listed(words: WordList, prompt: str, category: str) -> None:
    assert words.find(prompt)[category] == 1.0


def test_a_plain_weapon_is_scored_and_left_to_the_policy(words: WordList) -> None:
    assert words.find("a pistol on a table") == {"weapons": 0.4}
    assert words.find("a p\u200bistol on a table") == {"weapons": 1.0}
    assert words.find("a loaded pistol") == {"weapons": 1.0}


@pytest.mark.parametrize(
    "prompt",
    [
        "a water pistol", "glue gun", "G R A P E", "L O V E", "junge frau mit hut", "nude lipstick",
        "a nacktschnecke", "the naked eye", "photographs of anniversaries", "h4ck3r c4t", "4k, 3d",
        "a kind smile, sexy car", "trump card", "Suizidprävention", "deadbeef cafe", "100% cotton",
    ],
)  # fmt: skip
def test_harmless_words_that_look_like_it_are_let_through(words: WordList, prompt: str) -> None:
    assert words.find(prompt) == {}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a red fox, 3 apples", "a red fox, 3 apples"),
        ("17th century, 3d, 4k, mp3, 1980s, $100k", "17th century, 3d, 4k, mp3, 1980s, $100k"),
        ("Käsespätzle für Жизнь, Straße", "Käsespätzle für Жизнь, Straße"),
        ("n4k3d w0m4n on a $0f4", "naked woman on a sofa"),
        ("nu\u200bde", "nude"),
        ("\u0440orn", "porn"),
        ("w o m a n  i n  b e d", "woman in bed"),
    ],
)
def test_the_heads_read_words_without_their_disguise(text: str, read: str) -> None:
    assert undisguised(text) == read


def test_what_is_encoded_is_read_behind_the_words() -> None:
    assert decoded("draw bnVkZSB3b21hbg==") == ["nude woman"]
    assert undisguised("draw bnVkZSB3b21hbg==") == "draw bnVkZSB3b21hbg== nude woman"


def test_allowed_phrases_may_stand_side_by_side(words: WordList) -> None:
    assert words.find("suicide squad suicide squad") == {}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_a_prompt_built_to_take_time_is_read_to_its_end(words: WordList, name: str) -> None:
    """A bound against hangs alone: the longest takes 50 ms, and took hours."""
    begin = time.process_time()
    assert words.find(ADVERSARIAL[name]) == {}
    assert "hate" in words.find(f"{ADVERSARIAL[name]} swastika")
    assert time.process_time() - begin < 5.0
    assert len(plain(ADVERSARIAL[name])) <= 4 * len(ADVERSARIAL[name])
    assert len(undisguised(ADVERSARIAL[name])) <= 4 * len(ADVERSARIAL[name])


def test_plain_text_stays_as_it_is() -> None:
    assert plain("a red fox, 3 apples") == "a red fox, 3 apples"


@pytest.mark.parametrize(
    ("text", "field"), [("hate swastika", "line 1"), ("hate\tswastika", "bare-word")]
)
def test_a_broken_word_list_refuses_to_load(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(ScreenUnusable, match=f"{path}: {field}"):
        WordList.load(path)


def test_every_head_blocks_what_points_its_way_and_nothing_else_does(screen: PromptScreen) -> None:
    heads = screen.heads
    for index, category in enumerate(heads.categories):
        direction = heads.weight[index] / np.linalg.norm(heads.weight[index])
        (verdict,) = screen.screen(["a fox"], embeddings(direction))
        assert verdict.blocked
        assert category in verdict.categories
        (verdict,) = screen.screen(["a fox"], embeddings(-direction))
        assert category not in verdict.categories


def test_a_verdict_comes_back_for_each_prompt_in_order(screen: PromptScreen) -> None:
    verdicts = screen.screen(["a fox", "a swastika", "a fox"], np.zeros((3, 384)))
    assert [verdict.blocked for verdict in verdicts] == [False, True, False]
    assert verdicts[1].categories == ("hate",)
    assert dict(verdicts[1].scores)["hate"] == 1.0
    assert set(dict(verdicts[0].scores)) == set(screen.heads.categories)
    assert screen.screen([], np.zeros((0, 384))) == []


def test_prompts_without_their_embeddings_are_refused(screen: PromptScreen) -> None:
    with pytest.raises(ValueError, match="2 prompts with 0 embeddings"):
        screen.screen(["a", "b"], np.zeros((0, 384)))


def test_missing_weights_refuse_to_load(tmp_path: Path) -> None:
    with pytest.raises(ScreenUnusable, match=r"none\.safetensors: file: missing"):
        PromptScreen(tmp_path / "none.safetensors")


def test_bytes_that_are_no_safetensors_file_refuse_to_load(tmp_path: Path) -> None:
    path = tmp_path / "screen.safetensors"
    path.write_bytes(WEIGHTS.read_bytes()[:-100])
    with pytest.raises(ScreenUnusable, match=f"{path}: file: not a safetensors"):
        PromptScreen(path)


def test_one_changed_bit_refuses_to_load(tmp_path: Path) -> None:
    path = tmp_path / "screen.safetensors"
    content = bytearray(WEIGHTS.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(ScreenUnusable, match=r"metadata\.sha256"):
        PromptScreen(path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"weight": np.zeros((7, 383), np.float32)}, "weight: is float32"),
        ({"bias": np.zeros(7, np.float64)}, "bias: is float64"),
        ({"threshold": np.full(7, np.nan, np.float32)}, "threshold: holds"),
        ({"bias": None}, "bias: missing"),
    ],
)
def test_a_wrong_tensor_refuses_to_load(
    tmp_path: Path, change: dict[str, np.ndarray | None], field: str
) -> None:
    path = tmp_path / "screen.safetensors"
    tensors = {k: v for k, v in (load_file(WEIGHTS) | change).items() if v is not None}
    names = json.dumps(list(map(str, Category)))
    save_file(tensors, path, {"categories": names, "encoder": "e", "sha256": "s"})
    with pytest.raises(ScreenUnusable, match=field):
        PromptScreen(path)


def test_missing_metadata_refuses_to_load(tmp_path: Path) -> None:
    path = tmp_path / "screen.safetensors"
    save_file(load_file(WEIGHTS), path)
    with pytest.raises(ScreenUnusable, match=r"metadata\.categories: missing"):
        PromptScreen(path)


def test_heads_survive_the_file(tmp_path: Path, screen: PromptScreen) -> None:
    path = tmp_path / "screen.safetensors"
    screen.heads.save(path)
    again = PromptHeads.load(path)
    assert again.categories == screen.heads.categories
    assert again.encoder == screen.heads.encoder
    np.testing.assert_array_equal(again.weight, screen.heads.weight)
    np.testing.assert_array_equal(again.threshold, screen.heads.threshold)


def test_merged_verdicts_block_together_and_keep_the_highest_score() -> None:
    calm = Verdict(False, (), (("sexual", 0.2), ("weapons", 0.1)), "one")
    alarm = Verdict(True, ("weapons",), (("weapons", 0.9),), "two")
    merged = merge([calm, alarm])
    assert merged == Verdict(True, ("weapons",), (("sexual", 0.2), ("weapons", 0.9)), "one+two")
    assert not merge([calm, calm]).blocked
    seen = Verdict(False, (), (("weapons", 0.4),), "two", flagged=("weapons",), policy="house@1")
    assert merge([calm, seen]).flagged == ("weapons",)
    assert merge([calm, seen, seen]).policy == "house@1"


def test_settings_that_name_no_screen_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'gore' is unknown"):
        SafetyScreens(["gore"], False, tmp_path)


def test_with_every_screen_off_nothing_is_blocked(tmp_path: Path) -> None:
    screens = SafetyScreens([], False, tmp_path)
    assert screens.score_prompts(["a swastika"], embeddings(np.zeros(384))) == [Scores()]
    assert screens.score_images([np.zeros((8, 8, 3), np.uint8)]) == [Scores()]
