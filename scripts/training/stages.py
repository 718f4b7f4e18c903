"""The trained stages, pictures to codes and layouts to codes, and what each minimises: picture
differences, and code cross-entropy."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.codec import Codec, to_latents
from engine.models.scene_transformer import SceneTransformer
from engine.remembering import THINGS, Bank, told_of
from engine.scene import PictureLayout
from scripts.training.dataset import Pictures, as_input
from scripts.training.editions import Edition
from scripts.training.fit import Fit

PROMPT_DROPOUT = 0.1
HELD_BACK = 512  # pictures at the end of the list that no step sees


def picture_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """L1 + MSE + L1 of gradients at three scales, pictures [B, planes, H, W] in [-1, 1].
    The gradient terms keep edges sharp without a pretrained perceptual network."""
    total = F.l1_loss(drawn, wanted) + F.mse_loss(drawn, wanted)
    for _ in range(3):
        for axis in (2, 3):
            total = total + 0.5 * (drawn.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
        drawn, wanted = F.avg_pool2d(drawn, 2), F.avg_pool2d(wanted, 2)
    return total


def draw_masks(batch: int, cells: int, generator: torch.Generator, power: float = 1.6) -> Tensor:
    """Which cells are hidden, bool [batch, cells]: cosine law with the share biased upward, where
    only the prompt can tell; every eighth picture is hidden whole."""
    spread = torch.rand(batch, 1, generator=generator).pow(power)
    share = torch.cos(spread * (math.pi / 2)).clamp(min=1 / cells)
    share[::8] = 1
    ranks = torch.rand(batch, cells, generator=generator).argsort(dim=1).argsort(dim=1)
    return ranks < (share * cells).ceil()


def masked_cross_entropy(logits: Tensor, codes: Tensor, masked: Tensor) -> Tensor:
    """Mean nats per code over hidden cells. logits [B, N, C, L], codes [B, N, C]."""
    losses = F.cross_entropy(logits.flatten(0, 2).float(), codes.flatten().long(), reduction="none")
    per_cell = losses.unflatten(0, tuple(codes.shape)).mean(dim=2)
    return (per_cell * masked).sum() / masked.sum()


def train_codec(edition: Edition, pictures: Pictures, cache: Path, device: torch.device) -> Codec:
    """Trains (or resumes) the tokenizer; returns the averaged weights."""
    torch.manual_seed(edition.seed)
    codec = Codec(edition.codec).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(codec.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0)
    fit = Fit(codec, [optimizer], cache / edition.name / "codec.pt", decay=0.998)
    usable, batch = len(pictures.pixels) - HELD_BACK, edition.codec_batch

    @torch.compile
    def loss_on(seen: Tensor, wanted: Tensor) -> Tensor:
        return picture_loss(codec(seen).float(), wanted)

    def loss_of(step: int) -> Tensor:
        rows = np.random.default_rng((edition.seed, step)).integers(usable, size=batch)
        wanted = as_input(pictures.pixels[np.sort(rows)]).to(device)
        seen = wanted[:, :3].contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            return loss_on(seen, wanted)

    if fit.elapsed < edition.codec_minutes * 60:
        fit.run(loss_of, batch, edition.codec_minutes * 60)
    average = fit.average
    assert isinstance(average, Codec)
    _report(average, pictures)
    return average


def polish_decoder(
    edition: Edition, pictures: Pictures, codes: Tensor, codec: Codec, cache: Path
) -> Codec:
    """Trains the codec's decoder further while its encoder, and so every code, stays as it is."""
    torch.manual_seed(edition.seed)
    device = next(codec.parameters()).device
    decoder = copy.deepcopy(codec.decoder).requires_grad_(True).train()
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0)
    fit = Fit(decoder, [optimizer], cache / edition.name / "polish.pt", decay=0.998)
    usable, batch = len(codes) - HELD_BACK, edition.codec_batch

    @torch.compile
    def loss_on(latents: Tensor, wanted: Tensor) -> Tensor:
        return picture_loss(decoder(latents).float(), wanted)

    def loss_of(step: int) -> Tensor:
        rows = np.random.default_rng((edition.seed, 1, step)).integers(usable, size=batch)
        rows.sort()
        wanted = as_input(pictures.pixels[rows]).to(device)
        latents = to_latents(codes[rows], edition.codec.levels).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            return loss_on(latents, wanted)

    if fit.elapsed < edition.polish_minutes * 60:
        fit.run(loss_of, batch, edition.polish_minutes * 60)
    codec.decoder.load_state_dict(fit.average.state_dict())
    _report(codec, pictures)
    return codec


@torch.inference_mode()
def _report(codec: Codec, pictures: Pictures) -> None:
    device = next(codec.parameters()).device
    wanted = as_input(pictures.pixels[-HELD_BACK:]).to(device)
    errors = (codec(wanted[:, :3]).clamp(-1, 1) - wanted).square().mean(dim=(0, 2, 3)) / 4
    colour, alpha = (-10 * np.log10(e.mean().item()) for e in (errors[:3], errors[3]))
    print(f"codec: PSNR {colour:.2f} dB, alpha {alpha:.2f} dB, on pictures held back", flush=True)


def train_transformer(
    edition: Edition,
    codes: Tensor,
    layouts: Sequence[PictureLayout],
    memory: Bank,
    cache: Path,
    device: torch.device,
) -> SceneTransformer:
    """Trains (or resumes) the masked transformer; returns the averaged weights."""
    torch.manual_seed(edition.seed)
    model = SceneTransformer(edition.transformer).to(device)
    matrices = [p for n, p in model.named_parameters() if n.startswith("layers.") and p.ndim == 2]
    matrices = [p for p in matrices if p.shape[0] != 6]
    taken = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in taken]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.01, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.98), weight_decay=0),
    ]
    fit = Fit(model, optimizers, cache / edition.name / "transformer.pt", decay=0.997)
    forward = torch.compile(model)
    usable, batch, levels = len(codes) - HELD_BACK, edition.transformer_batch, edition.codec.levels
    generator = torch.Generator()

    def loss_of(step: int) -> Tensor:
        generator.manual_seed(edition.seed * 1_000_003 + step)
        rows = torch.randint(usable, (batch,), generator=generator)
        dropped = draw_dropped(batch, generator)
        masked = draw_masks(batch, codes.shape[1], generator)
        return _loss(forward, rows, dropped, masked)

    def _loss(net, rows, dropped, masked):  # type: ignore[no-untyped-def]
        wanted, masked = codes[rows].to(device), masked.to(device)
        told = told_of([layouts[int(row)] for row in rows], memory, levels, dropped).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            logits = net(to_latents(wanted, levels), masked, told)
        return masked_cross_entropy(logits, wanted, masked)

    if fit.elapsed < edition.transformer_minutes * 60:
        fit.run(loss_of, batch, edition.transformer_minutes * 60)
    average = fit.average
    assert isinstance(average, SceneTransformer)
    rows = torch.arange(usable, usable + HELD_BACK)
    masked = draw_masks(HELD_BACK, codes.shape[1], torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for name, nothing in (("with layout", False), ("without layout", True)):
            dropped = torch.full((HELD_BACK, THINGS + 1), nothing)
            loss = _loss(average, rows, dropped, masked).item()
            print(f"transformer: {name} {loss:.4f} nats a code, held back", flush=True)
    return average


def draw_dropped(batch: int, generator: torch.Generator) -> Tensor:
    """What the network is not told, bool [batch, THINGS + 1]: PROMPT_DROPOUT of all there is, and
    as often one thing or the background alone."""
    whole, part = torch.rand(2, batch, 1, generator=generator) < PROMPT_DROPOUT
    which = torch.randint(THINGS + 1, (batch, 1), generator=generator)
    return whole | (part & (torch.arange(THINGS + 1) == which))
