"""`make bench-provenance`: what survives of the watermark, what it changes, what both layers cost,
and whether manifests hold. Leaves pictures to look at in out/provenance; the last line is one JSON
object.

    python -m scripts.provenance --pictures 40 --unmarked 100
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from dispatch.identity import Identity, IdentityFiles, read_identity
from engine.picture import OutputFormat, encode
from engine.provenance.manifest import Made, Parent, Signer, check
from engine.provenance.pattern import MarkKey
from engine.provenance.watermark import detect, mark, strongest, threshold
from engine.render import Pixels
from scripts.provenance.pictures import drawn, photographs
from scripts.report import Goals, missed, say, table
from tests.stages.attacks import ATTACKS, HARDEST, Attack

OUT = Path(__file__).resolve().parents[2] / "out" / "provenance"
GOALS: Goals = {
    "watermark_survival": (">=", 0.95),
    "false_positives": ("<=", 0),
    "psnr_db": (">=", 42),
    "mark_and_sign_ms": ("<=", 25),
    "manifests_valid": (">=", 1.0),
}
FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
HEADERS = {"png": 33, "jpeg": 20, "webp": 12}
"""Bytes before what may stand behind the manifest."""
QUALITY = 90
ROUNDS = 30
Found = dict[str, float]


def survival(marked: Sequence[Pixels], key: MarkKey) -> Found:
    """Of the worst attack of the listed ones; the harder one is said beside them."""
    shares = {name: _survived(marked, attack, key) for name, attack in ATTACKS.items()}
    for name, attack in HARDEST.items():
        say(f"not among the listed attacks: {name}: {_survived(marked, attack, key):.1%}")
    for name, share in shares.items():
        say(f"{name:20} {share:7.1%}")
    return {"watermark_survival": round(min(shares.values()), 3)}


def _survived(marked: Sequence[Pixels], attack: Attack, key: MarkKey) -> float:
    attacked = (np.asarray(attack(Image.fromarray(one))) for one in marked)
    return statistics.mean(detect(one, [key]) is not None for one in attacked)


def false_positives(unmarked: Sequence[Pixels], key: MarkKey) -> Found:
    """Of pictures that nothing has marked; the highest score says how far they stay below."""
    scores = [strongest(one, key).score for one in unmarked]
    line = threshold(1)
    say(f"{len(scores)} unmarked: highest score {max(scores):.2f}, threshold {line:.2f}")
    return {"false_positives": sum(score >= line for score in scores)}


def difference(pictures: Sequence[Pixels], marked: Sequence[Pixels]) -> Found:
    """Peak signal to noise, in decibels, and what a PNG grows by."""
    found = [_decibels(*pair) for pair in zip(pictures, marked, strict=True)]
    sizes = [sum(len(encode(one, "png")) for one in many) for many in (pictures, marked)]
    say(f"PSNR: least {min(found):.1f} dB; PNG files of marked pictures {sizes[1] / sizes[0]:.2f}x")
    return {"psnr_db": round(statistics.mean(found), 2)}


def _decibels(picture: Pixels, marked: Pixels) -> float:
    return 10 * math.log10(255**2 / float(np.mean((picture.astype(float) - marked) ** 2)))


def cost(picture: Pixels, key: MarkKey, identity: Identity) -> Found:
    """Milliseconds of processor time for one picture: the median, of the slowest format."""
    assert identity.signing is not None
    signer, made = Signer(identity.signing), Made("a-model", datetime.now(UTC))
    marked = mark(picture, key)
    marking = _median_ms(lambda: mark(picture, key))
    files = {kind: encode(marked, kind, QUALITY) for kind in FORMATS}
    signing = {
        kind: _median_ms(lambda kind=kind, file=file: signer.sign(file, kind, made))  # type: ignore[misc]
        for kind, file in files.items()
    }
    said = ", ".join(f"{kind} {ms:.1f} ms" for kind, ms in signing.items())
    say(f"marking {marking:.1f} ms; signing {said}")
    searching = (
        _median_ms(lambda: detect(picture, [key]), 5),
        _median_ms(lambda: detect(marked, [key])),
    )
    say(f"searching {searching[1]:.0f} ms where there is a mark, {searching[0]:.0f} ms where not")
    return {"mark_and_sign_ms": round(marking + max(signing.values()), 1)}


def _median_ms(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    work()
    taken = []
    for _ in range(rounds):
        began = time.process_time()  # one thread each, and other work comes and goes
        work()
        taken.append(time.process_time() - began)
    return 1000 * statistics.median(taken)


def manifests(marked: Sequence[Pixels], identity: Identity) -> Found:
    """The share of files that hold, each with an edit of it, and break with one pixel changed."""
    assert identity.signing is not None
    signer, now = Signer(identity.signing), datetime.now(UTC)
    good = []
    for number, pixels in enumerate(marked):
        kind = FORMATS[number % len(FORMATS)]
        file = signer.sign(encode(pixels, kind, QUALITY), kind, Made("a-model", now))
        parent = Parent("img", file)
        edit = signer.sign(encode(pixels, "png"), "png", Made("a-model", now, parent))
        changed = _with_another_picture(pixels, file, kind)
        good += [
            check(file, identity.anchors).state == "trusted",
            check(edit, identity.anchors).state == "trusted",
            check(changed, identity.anchors).state == "invalid",
        ]
    return {"manifests_valid": statistics.mean(good)}


def _with_another_picture(pixels: Pixels, signed: bytes, kind: OutputFormat) -> bytes:
    """The signed file, with the data of the same picture but for one pixel."""
    other = pixels.copy()
    other[len(other) // 2, 0] ^= 64
    before, after = encode(pixels, kind, QUALITY), encode(other, kind, QUALITY)
    same = next(n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    data = max(same - 8, HEADERS[kind])
    changed = signed.replace(before[data:], after[data:])
    if changed == signed:
        raise SystemExit(f"the {kind} file does not hold its picture's data in one piece")
    return changed


def sheet(pictures: Sequence[Pixels], marked: Sequence[Pixels]) -> Path:
    """Before, after, and twenty times the difference on grey."""
    rows = []
    for before, after in zip(pictures, marked, strict=True):
        change = np.clip(128 + 20 * (after.astype(int) - before), 0, 255).astype(np.uint8)
        rows.append(np.concatenate([before, after, change], axis=1))
    OUT.mkdir(parents=True, exist_ok=True)
    file = BytesIO()
    Image.fromarray(np.concatenate(rows)).save(file, "PNG")
    (OUT / "marked.png").write_bytes(file.getvalue())
    return OUT / "marked.png"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200, help="half of them photographs")
    parser.add_argument("--unmarked", type=int, default=1000)
    options = parser.parse_args()
    half = options.pictures // 2
    pictures = [*drawn(half), *photographs(half, seed=1)]
    key = MarkKey("bench", b"the secret of this benchmark ...")
    marked = [mark(one, key) for one in pictures]
    shown = [*range(3), *range(half, half + 3)]
    say(f"pictures: {sheet([pictures[n] for n in shown], [marked[n] for n in shown])}")
    unmarked = [*pictures, *photographs(options.unmarked - len(pictures), seed=2)]
    with tempfile.TemporaryDirectory() as folder:
        files = IdentityFiles(True, True, str(Path(folder) / "own"))
        identity = read_identity(files, datetime.now(UTC))
    found = {
        **survival(marked, key),
        **false_positives(unmarked, key),
        **difference(pictures, marked),
        **cost(pictures[0], key, identity),
        **manifests(marked, identity),
    }
    for line in table(GOALS, {"measured": found}):
        say(line)
    say(json.dumps(found))
    return 1 if missed(GOALS, found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
