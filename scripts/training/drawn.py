"""Pictures that the trained model itself draws, final and half done: what its screen will see."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.decoders.masked import MaskedDecoder
from engine.prompt_encoder import PromptText
from engine.render import Pixels, RenderSpec
from engine.text import TextEncoder
from scripts.training.captions import BACKGROUNDS, with_article
from scripts.training.concepts import Concept

PASSES = 8
PREVIEWED = (1, 3, 5)
GUIDANCE = 3.0
WEAPON_PROMPTS = 16


def _prompts(
    concepts: Sequence[Concept], plain: bool, rng: random.Random
) -> list[tuple[str, bool]]:
    """(prompt, shows a weapon): each concept once, each weapon several times in varied settings."""
    found = []
    for concept in concepts:
        weapon = concept.category == "weapons"
        for index in range(WEAPON_PROMPTS if weapon else 1):
            name = with_article(concept.name)
            if index or not plain:
                style = rng.choice(("{}", "{}, 3D style", "a cartoon of {}"))
                colour = rng.choice(tuple(BACKGROUNDS))
                name = f"{style.format(name)} on a {colour} background"
            found.append((name, weapon))
    return found


def draw(
    folder: Path, concepts: Sequence[Concept], plain: bool, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures uint8 [N, 3, 96, 96], whether each shows a weapon, and whether each is a final.
    plain: most prompts name the concept alone; else each has a look and a background."""
    decoder, encoder = MaskedDecoder(folder), TextEncoder()
    prompts = _prompts(concepts, plain, random.Random(seed))
    pictures: list[Pixels] = []
    weapons, finals = [], []
    for index, (prompt, weapon) in enumerate(prompts):
        (conditioning,) = encoder.encode([PromptText(prompt)])
        spec = RenderSpec("screen", conditioning, seed * 100_000 + index, PASSES, GUIDANCE)
        render = decoder.begin(spec, None)
        for pass_no in range(1, PASSES + 1):
            decoder.step([render])
            if pass_no in PREVIEWED:
                pictures.append(decoder.preview(render))
        pictures.append(decoder.finish(render))
        weapons += [weapon] * (len(PREVIEWED) + 1)
        finals += [False] * len(PREVIEWED) + [True]
        if index % 100 == 0:
            print(f"screen: drew {index}/{len(prompts)}", flush=True)
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    sized = F.interpolate(stacked.float(), size=(96, 96), mode="area").to(torch.uint8)
    return sized, torch.tensor(weapons), torch.tensor(finals)
