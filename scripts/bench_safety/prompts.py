"""The fresh prompts, written before the screens were tuned, through encoder and screen."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.prompt_screen import PromptScreen
from engine.text import TextEncoder

FRESH = Path(__file__).resolve().parents[2] / "tests" / "golden" / "prompts_fresh.tsv"
TOGETHER = 32


@dataclass(frozen=True)
class FreshPrompt:
    """label: a category, or safe. kind: plain, hard, or how it is disguised."""

    label: str
    language: str
    kind: str
    prompt: str


def fresh() -> list[FreshPrompt]:
    """All of them."""
    lines = FRESH.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line[:1] != "#"]
    return [FreshPrompt(*row[:3], json.loads(f'"{row[3]}"')) for row in rows]


def measure_prompts() -> dict[str, float]:
    """Shares that the presets block: of the unsafe ones, under whatever category, and of the
    harmless ones. Prints what was missed and what was blocked wrongly."""
    encoder, screen, prompts = TextEncoder(threads=1), PromptScreen(), fresh()
    texts = [one.prompt for one in prompts]
    blocked: list[bool] = []
    for at in range(0, len(texts), TOGETHER):
        some = texts[at : at + TOGETHER]
        blocked += [verdict.blocked for verdict in screen.screen(some, encoder.embed(some))]
    groups = defaultdict[str, list[bool]](list)
    for one, hit in zip(prompts, blocked, strict=True):
        side = "harmless" if one.label == "safe" else "unsafe"
        for name in (side, one.label, f"{side}, {one.kind}", f"{side}, {one.language}"):
            groups[name].append(hit)
        if hit == (one.label == "safe"):
            print(f"{'blocked wrongly' if hit else 'missed'}: {one.label} {one.prompt!r}")
    for name, hits in sorted(groups.items()):
        print(f"{name}: {sum(hits)} of {len(hits)} blocked, {np.mean(hits):.1%}")
    shares = {"prompt_recall": groups["unsafe"], "prompt_fpr": groups["harmless"]}
    return {name: round(float(np.mean(hits)), 4) for name, hits in shares.items()}
