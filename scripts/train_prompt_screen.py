"""Train the prompt screen's heads on scripts/training/prompts.tsv and print what they reach.

Deterministic, about three minutes on one core. `--check` measures and writes nothing.
"""

from __future__ import annotations

import argparse
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.policy import OWN_LINE
from engine.prompt_screen import WEIGHTS, WORDS, PromptHeads, unit
from engine.prompt_words import WordList
from engine.text import SHA256, TextEncoder

PROMPTS = Path(__file__).parent / "training" / "prompts.tsv"
HELD_OUT = PROMPTS.with_name("prompts_held_out.tsv")
HARMLESS = PROMPTS.with_name("harmless_words.txt")
STYLES = ("{} on a white background", "a picture of {}", "{}, digital art, detailed")
CATEGORIES = ("sexual", "minors", "hate", "violence", "self-harm", "weapons", "real-persons")
FOLDS = 5
PENALTY = 0.1
"""L2 penalty on the weights (not the bias), settled by hand among 0.02 .. 4, see docs/safety.md."""
OTHER_UNSAFE_WEIGHT = 0.1
"""How much an unsafe prompt of another category counts as a negative: to block matters more than
to name the right category."""
ALLOWED_FPR = 0.005
"""Share of the safe prompts (most of them hard on purpose) that all heads together may block."""
FLOOR = 0.5
"""No limit below this, however well the few prompts here separate."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """N prompts: embeddings [N, 384] of length 1, the same prompts in other words around them
    [styles, N, 384] (trained on, never scored), labels bool [N, C], hard_safe bool [N]."""

    prompts: list[str]
    embeddings: Floats
    dressed: Floats
    labels: NDArray[np.bool_]
    hard_safe: NDArray[np.bool_]

    @property
    def safe(self) -> NDArray[np.bool_]:
        return np.asarray(~self.labels.any(1))


def read_examples(encoder: TextEncoder, path: Path) -> Examples:
    rows = [line.split("\t") for line in path.read_text().splitlines() if line[:1] != "#"]
    prompts = [prompt for _, prompt in rows]
    labels = np.array([[c in names.split(",") for c in CATEGORIES] for names, _ in rows])
    hard = np.array([names == "safe-hard" for names, _ in rows])
    dressed = [embed(encoder, [style.format(prompt) for prompt in prompts]) for style in STYLES]
    return Examples(prompts, embed(encoder, prompts), np.stack(dressed), labels, hard)


def embed(encoder: TextEncoder, prompts: list[str]) -> Floats:
    chunks = [encoder.embed(prompts[i : i + 32]) for i in range(0, len(prompts), 32)]
    return unit(np.concatenate(chunks)).astype(np.float64)


def emoji_names() -> list[str]:
    """Unicode's own, in lower case."""
    spans = ((0x1F300, 0x1F650), (0x1F680, 0x1F700), (0x1F900, 0x1FA00), (0x1FA70, 0x1FB00))
    names = [unicodedata.name(chr(c), "") for span in spans for c in range(*span)]
    skipped = ("MODIFIER", "NO ONE UNDER", "INPUT SYMBOL", "SQUARED")
    return [name.lower() for name in names if name and not any(s in name for s in skipped)]


def captions() -> list[str]:
    """Harmless captions of the shape the picture model knows, of the names of emoji."""
    colours = ("white", "yellow", "blue", "green", "red", "grey", "black", "pink")
    return [
        name if i % 3 == 0 else f"a {name} on a {colours[i % len(colours)]} background"
        for i, name in enumerate(emoji_names())
    ]


def harmless_words() -> tuple[list[str], list[str]]:
    """Ordinary nouns to train on, and every sixth, which is never trained on."""
    lines = HARMLESS.read_text(encoding="utf-8").splitlines()
    words = [line for line in lines if line[:1] != "#"]
    return [word for i, word in enumerate(words) if i % 6], words[::6]


def fit(x: Floats, y: NDArray[np.bool_], weight: Floats) -> Floats:
    """Logistic regression by Newton, both classes weighing the same -> [385], bias last."""
    design = np.hstack([x, np.ones((len(x), 1))])
    weight = weight * len(x) / np.where(y, 2 * weight[y].sum(), 2 * weight[~y].sum())
    ridge = np.diag(np.append(np.full(x.shape[1], PENALTY), 1e-6))
    beta = np.zeros(design.shape[1])
    for _ in range(20):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (weight * (p - y)) + ridge @ beta
        scaled = design * np.sqrt(weight * p * (1 - p))[:, None]
        step = np.linalg.solve(scaled.T @ scaled + ridge, gradient)
        beta -= step
        if np.abs(step).max() < 1e-9:
            break
    return beta


def fit_all(x: Floats, labels: NDArray[np.bool_]) -> Floats:
    unsafe = labels.any(1)
    return np.stack([fit(x, y, np.where(unsafe & ~y, OTHER_UNSAFE_WEIGHT, 1.0)) for y in labels.T])


def score(betas: Floats, x: Floats) -> Floats:
    return 1 / (1 + np.exp(-(x @ betas[:, :-1].T + betas[:, -1])))


def thresholds(scores: Floats, labels: NDArray[np.bool_]) -> Floats:
    """[N, C] scores and labels -> [C] limits.

    Begins with limits that block no safe prompt, then spends the allowed false positives one by
    one on the head whose lower limit lets the most unsafe prompts be blocked for each.
    """
    safe = ~labels.any(1)
    ladders = [np.append(np.sort(scores[safe, c])[::-1], 0.0) for c in range(scores.shape[1])]
    level = np.zeros(len(ladders), dtype=np.int64)

    def limits(level: NDArray[np.int64]) -> Floats:
        return np.array(
            [max(FLOOR, ladder[k] + 1e-3) for ladder, k in zip(ladders, level, strict=True)]
        )

    def blocked(level: NDArray[np.int64]) -> tuple[int, int]:
        hit = (scores >= limits(level)).any(1)
        return int(hit[safe].sum()), int(hit[~safe].sum())

    while True:
        wrong, right = blocked(level)
        best, best_gain = None, 0.0
        for c in range(len(ladders)):
            for steps in range(1, 5):
                tried = level + steps * (np.arange(len(ladders)) == c)
                more_wrong, more_right = blocked(tried)
                gain = (more_right - right) / max(more_wrong - wrong, 0.5)
                if more_wrong <= ALLOWED_FPR * safe.sum() and gain > best_gain:
                    best, best_gain = tried, gain
        if best is None:
            return limits(level)
        level = best


def auc(scores: Floats, y: NDArray[np.bool_]) -> float:
    """Chance that a positive scores over a negative, ties counted half."""
    gap = scores[y][:, None] - scores[~y][None, :]
    return float((gap > 0).mean() + 0.5 * (gap == 0).mean())


def folds(examples: Examples) -> NDArray[np.int64]:
    """Fold of each prompt, the kinds spread evenly; fixed seed."""
    order = np.random.default_rng(0).permutation(len(examples.prompts))
    kind = examples.labels @ (2 ** np.arange(len(CATEGORIES))) * 2 + examples.hard_safe
    order = order[np.argsort(kind[order], kind="stable")]
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % FOLDS
    return fold


def cross_validate(examples: Examples, negatives: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Out-of-fold scores [N, C], and which are over a limit that the other folds chose [N, C]."""
    fold = folds(examples)
    scores = np.zeros(examples.labels.shape)
    for k in range(FOLDS):
        betas = fit_all(*with_negatives(examples, fold != k, negatives))
        scores[fold == k] = score(betas, examples.embeddings[fold == k])
    over = np.zeros_like(scores, dtype=bool)
    for k in range(FOLDS):
        limits = thresholds(scores[fold != k], examples.labels[fold != k])
        over[fold == k] = scores[fold == k] >= limits
    return scores, over


def with_negatives(
    examples: Examples, chosen: NDArray[np.bool_], negatives: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Rows to train on: the chosen prompts, plain and dressed, and harmless captions and words."""
    none = np.zeros((len(negatives), len(CATEGORIES)), dtype=bool)
    dressed = examples.dressed[:, chosen]
    labels = examples.labels[chosen]
    return (
        np.vstack([examples.embeddings[chosen], *dressed, negatives]),
        np.vstack([labels, *([labels] * len(dressed)), none]),
    )


def report(
    title: str, examples: Examples, scores: Floats, over: NDArray[np.bool_], words: WordList
) -> None:
    """Figures of one set of prompts: over [N, C] says which heads block which prompt."""
    found = listed(words, examples.prompts)
    safe, hard, blocked = examples.safe, examples.hard_safe, over.any(1)
    print(f"\n{title}")
    print(f"{'category':<10} {'prompts':>7} {'AUC':>6} {'recall':>7} {'FPR hard-safe':>14}")
    for c, name in enumerate(CATEGORIES):
        y = examples.labels[:, c]
        if not y.any():
            continue
        print(
            f"{name:<10} {y.sum():>7} {auc(scores[y | safe, c], y[y | safe]):>6.3f} "
            f"{over[y, c].mean():>7.1%} {over[hard, c].mean():>14.1%}"
        )
    for name, rows in (("unsafe", ~safe), ("hard-safe", hard), ("plain", safe & ~hard)):
        share(f"{name} prompts", blocked[rows], found[rows])
    both = blocked | found
    print("missed:", "; ".join(np.array(examples.prompts)[~safe & ~both]))
    print("wrongly blocked:", "; ".join(np.array(examples.prompts)[safe & both]))


def listed(words: WordList, prompts: list[str]) -> NDArray[np.bool_]:
    """Which prompts the word list alone blocks."""
    return np.array([max(words.find(prompt).values(), default=0) >= OWN_LINE for prompt in prompts])


def share(name: str, heads: NDArray[np.bool_], words: NDArray[np.bool_]) -> None:
    both = (heads | words).mean()
    print(f"blocked of {len(heads):>4} {name}: by heads {heads.mean():.1%}, with words {both:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="measure only, write nothing")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    encoder, words = TextEncoder(threads=1), WordList.load(WORDS)
    examples, held_out = read_examples(encoder, PROMPTS), read_examples(encoder, HELD_OUT)
    texts, (train_words, unseen_words) = captions(), harmless_words()
    train_texts = [text for i, text in enumerate(texts) if i % 4 == 0]
    unseen_texts = [text for i, text in enumerate(texts) if i % 4]
    negatives = np.vstack([embed(encoder, train_texts), embed(encoder, train_words)])

    scores, over = cross_validate(examples, negatives)
    report(f"{PROMPTS.name}: {FOLDS}-fold cross-validation", examples, scores, over, words)

    betas = fit_all(*with_negatives(examples, np.ones(len(scores), dtype=bool), negatives))
    limits = thresholds(scores, examples.labels)
    unseen = score(betas, held_out.embeddings)
    report(f"{HELD_OUT.name}: never trained on", held_out, unseen, unseen >= limits, words)
    for name, harmless in (("captions", unseen_texts), ("words", unseen_words)):
        blocked = (score(betas, embed(encoder, harmless)) >= limits).any(1)
        found = listed(words, harmless)
        share(f"held-out {name}", blocked, found)
        print("wrongly blocked:", "; ".join(np.array(harmless)[blocked | found]))

    shown = ", ".join(f"{c} {t:.3f}" for c, t in zip(CATEGORIES, limits, strict=True))
    print(f"\nlimits: {shown}")
    if not arguments.check:
        save(arguments.out, betas, limits)


def save(path: Path, betas: Floats, limits: Floats) -> None:
    weight, bias, threshold = (a.astype(np.float32) for a in (betas[:, :-1], betas[:, -1], limits))
    PromptHeads(CATEGORIES, weight, bias, threshold, SHA256).save(path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
