"""How far the adult-content screen's quick look is from the network as published: on every look at
the measured drawings, on crops of photographs that neither was calibrated on, and on noise in the
colours of skin, which is what the network finds most in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from engine.image_screen import NSFW_THRESHOLD, SURE, NsfwScreen, cells, centred, seen
from engine.render import Pixels
from scripts.photographs import crops, photographs
from scripts.report import say
from scripts.weapons.drawings import draw_sets, load

PHOTOGRAPHS = (
    "astronaut.png", "chelsea.png", "hubble_deep_field.jpg", "retina.jpg", "ihc.png",
    "microaneurysms.png",
)  # fmt: skip
CROPS = 60
"""Of each photograph."""
BLOBS = 500
SIDE = 128


def measure_agreement() -> dict[str, float]:
    """quick_largest_difference: of the two networks' scores where the quick one decides;
    quick_share: how often it does; quick_missed: pictures blocked by the full network alone."""
    draw_sets(["measured"])
    drawn = [look for looks in load("measured").pictures for look in looks]
    sets = {
        "drawings": drawn,
        "photographs": list(crops(photographs(PHOTOGRAPHS, ("china.jpg",)), CROPS, seed=1)),
        "skin colours": list(blobs(BLOBS, seed=2)),
    }
    screen, rows = NsfwScreen(), []
    for name, pictures in sets.items():
        quick, full = np.array([both(screen, picture) for picture in pictures]).T
        rows.append(np.stack([quick, full]))
        sure, bad = quick < SURE, full >= NSFW_THRESHOLD
        say(f"{name}: {len(pictures)}; the quick look decides {sure.mean():.3f}, its largest "
            f"difference then {np.abs(quick - full)[sure].max():.3f}, of all "
            f"{np.abs(quick - full).max():.3f}; blocked by the full network {bad.sum()}, least "
            f"quick score of these {quick[bad].min(initial=1):.3f}")  # fmt: skip
    quick, full = np.concatenate(rows, axis=1)
    sure = quick < SURE
    return {
        "quick_pictures": len(quick),
        "quick_share": round(float(sure.mean()), 4),
        "quick_largest_difference": round(float(np.abs(quick - full)[sure].max()), 4),
        "quick_missed": int((sure & (full >= NSFW_THRESHOLD)).sum()),
    }


def both(screen: NsfwScreen, picture: Pixels) -> tuple[float, float]:
    """The scores of the quick network and of the full one."""
    looked_at = [seen(picture)]
    return float(screen.quick(cells(looked_at))[0]), float(screen.full(centred(looked_at))[0])


def blobs(count: int, seed: int) -> Iterator[Pixels]:
    """Blurred shapes in colours of skin, shaded, on any ground."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        skin = random.uniform((180, 120, 90), (255, 200, 170)) * random.uniform(0.4, 1.05)
        ground = random.uniform(0, 255, 3) if random.random() < 0.6 else skin * 0.7
        shape, shade = (_smooth(random, width) for width in random.uniform(4, 25, 2))
        inside = 1 / (1 + np.exp(-random.uniform(4, 48) * (shape - random.uniform(-0.4, 0.2))))
        lit = skin * (1 + 0.3 * shade[..., None])
        picture = inside[..., None] * lit + (1 - inside[..., None]) * ground
        yield np.clip(picture, 0, 255).astype(np.uint8)


def _smooth(random: np.random.Generator, width: float) -> NDArray[np.float64]:
    """[128, 128] in -1 to 1."""
    noise = gaussian_filter(random.standard_normal((SIDE, SIDE)), width)
    return noise / np.abs(noise).max()
