"""The enlarger's training: what the codec draws of scenes, and the same scenes composed larger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.models.codec import Codec, to_latents
from engine.models.enlarger import EnlargerNet
from engine.picture import resize
from scripts.training import sources
from scripts.training.compose import SpriteSheet
from scripts.training.dataset import Pictures, as_input, compose, rendered
from scripts.training.editions import Edition
from scripts.training.fit import Fit
from scripts.training.stages import HELD_BACK

MEASURED = 128
"""Pictures of those held back on which it is compared with Lanczos."""
CROP, BATCH = 48, 16
"""Pixels along a side of what is drawn, and how many parts of pictures one step sees."""
GREY_SHARE = 1 / 8
"""Of the parts that are alpha planes, which are enlarged as grey pictures."""
STEEPEST = 0.02
"""The share of pixels at which edges are compared."""


@dataclass(frozen=True)
class Pairs:
    """drawn: uint8 [N, side, side, 4]; wanted: uint8 [N, factor * side, factor * side, 4]."""

    drawn: NDArray[np.uint8]
    wanted: NDArray[np.uint8]


def enlarged_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Mean distance of colours, of pixels and of 4 x 4 of them, pictures [B, 3, H, W] in [-1, 1].
    Where the place of an edge is uncertain, this is least for a sharp one in the middle; squares
    and differences of gradients are least for a blurred one."""
    coarse = F.avg_pool2d(drawn, 4) - F.avg_pool2d(wanted, 4)
    return _length(drawn - wanted) + coarse.abs().mean()


def _length(difference: Tensor) -> Tensor:
    return (difference.square().mean(dim=1) + 1e-4).sqrt().mean()


def make_pairs(
    edition: Edition, pictures: Pictures, codes: Tensor, codec: Codec, cache: Path
) -> Pairs:
    """Of the first `edition.enlarged` scenes, and of MEASURED that are held back."""
    begin = len(pictures.layouts) - HELD_BACK
    rows = [*range(edition.enlarged), *range(begin, begin + MEASURED)]
    path = cache / edition.name / "enlarged.npy"
    if not path.exists():
        raw = rendered(pictures.concepts, sources.fetch(cache), cache)
        sheet = SpriteSheet.enlarged(raw, edition.codec.size, edition.enlarger.factor)
        compose(path, sheet, [pictures.layouts[row] for row in rows])
    return Pairs(_drawn(codec, codes[rows]), np.load(path, mmap_mode="r"))


def train_enlarger(edition: Edition, pairs: Pairs, cache: Path) -> EnlargerNet:
    """Trains (or resumes) it; returns the averaged weights."""
    torch.manual_seed(edition.seed)
    net = EnlargerNet(edition.enlarger).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0)
    fit = Fit(net, [optimizer], cache / edition.name / "enlarger.pt", decay=0.998)
    usable = len(pairs.drawn) - MEASURED

    @torch.compile
    def loss_on(drawn: Tensor, plain: Tensor, wanted: Tensor) -> Tensor:
        return enlarged_loss(plain + net(drawn).float(), wanted)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng((edition.seed, 2, step))
        rows = rng.integers(usable, size=BATCH)
        parts = [_part(pairs, int(row), edition.enlarger.factor, rng) for row in rows]
        drawn, plain, wanted = (as_input(np.stack(some)) for some in zip(*parts, strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            return loss_on(drawn.contiguous(memory_format=torch.channels_last), plain, wanted)

    if fit.elapsed < edition.enlarger_minutes * 60:
        fit.run(loss_of, BATCH, edition.enlarger_minutes * 60)
    average = fit.average
    assert isinstance(average, EnlargerNet)
    report(average, pairs)
    return average


def _part(
    pairs: Pairs, row: int, factor: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """A square of a picture as it is drawn, enlarged by Lanczos, and as it should be."""
    top, left = (int(at) for at in rng.integers(pairs.drawn.shape[1] - CROP + 1, size=2))
    drawn = pairs.drawn[row, top : top + CROP, left : left + CROP]
    above, before, side = top * factor, left * factor, CROP * factor
    wanted = pairs.wanted[row, above : above + side, before : before + side]
    planes = [3, 3, 3] if rng.random() < GREY_SHARE else [0, 1, 2]
    drawn, wanted = np.ascontiguousarray(drawn[..., planes]), wanted[..., planes]
    return drawn, resize(drawn, side, side), wanted


@torch.inference_mode()
def report(net: EnlargerNet, pairs: Pairs) -> None:
    """PSNR over pixels, and how steep edges are beside those of the scenes, of both ways."""
    errors, steps = np.zeros(2), np.zeros(3)
    for drawn, wanted in zip(pairs.drawn[-MEASURED:], pairs.wanted[-MEASURED:], strict=True):
        true = np.asarray(wanted[..., :3], np.float32)
        plain = resize(np.ascontiguousarray(drawn[..., :3]), *true.shape[:2]).astype(np.float32)
        added = net(as_input(drawn[None, ..., :3]))[0].permute(1, 2, 0).numpy() * 127.5
        ours = (plain + added).clip(0, 255)
        errors += [np.square(one - true).mean() for one in (plain, ours)]
        edges = [_steps(one) for one in (plain, ours, true)]
        steepest = edges[2] >= np.quantile(edges[2], 1 - STEEPEST)
        steps += [one[steepest].mean() for one in edges]
    (lanczos, learned), shares = 10 * np.log10(255**2 * MEASURED / errors), steps / steps[2]
    print(
        f"enlarger: PSNR {learned:.2f} dB, Lanczos {lanczos:.2f} dB; edges {shares[1]:.2f} as "
        f"steep as they should be, Lanczos {shares[0]:.2f}; on pictures held back",
        flush=True,
    )


def _steps(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """By how much each pixel differs from those to the right and below."""
    grey = picture.mean(axis=2)
    down, right = np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1]
    return np.hypot(down, right)


@torch.inference_mode()
def _drawn(codec: Codec, codes: Tensor) -> NDArray[np.uint8]:
    parts = []
    for at in range(0, len(codes), 64):
        latents = to_latents(codes[at : at + 64], codec.config.levels)
        pictures = codec.decoder(latents.to(next(codec.parameters()).device)).cpu()
        parts.append(((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
    return np.ascontiguousarray(torch.cat(parts).permute(0, 2, 3, 1).numpy())
