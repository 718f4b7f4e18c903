"""`make bench-edits`: what it costs to change a picture in part, beside drawing one.

The embedded model at medium quality through the real engine, one render at a time. Leaves a contact
sheet in out/edits; the last line is one JSON object. With --quality it asks instead whether more
passes make better edits.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from engine.capabilities import capabilities
from engine.decoders.masked import MaskedDecoder
from engine.prompt_encoder import PromptText
from engine.scene_encoder import SceneEncoder
from scripts.edits.measure import Kind, Studio, measure
from scripts.edits.pictures import quality, sheet

OUT = Path(__file__).resolve().parents[2] / "out" / "edits"
PROMPTS = ("a red apple", "a cat", "a rocket on a blue background", "a birthday cake")


def table(found: Sequence[Kind]) -> str:
    lines = [f"{'drawn':26}{'passes':>8}{'ms':>8}{'over full':>11}{'kept pixels moved':>19}"]
    for kind in found:
        middle = 1000 * statistics.median(kind.seconds)
        ratio, went = kind.over(found[0]), "" if kind.stored is None else kind.moved
        lines.append(f"{kind.name:26}{kind.passes:>8}{middle:>8.1f}{ratio:>11.3f}{went:>19}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few turns only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quality", action="store_true", help="edits by number of passes, instead")
    options = parser.parse_args()
    studio = Studio(MaskedDecoder(threads=options.threads), capabilities("masked", {}))
    encoder = SceneEncoder()
    if options.quality:
        print(quality(studio, encoder))
        return
    found = measure(
        studio, encoder.encode([*map(PromptText, PROMPTS)]), turns=8 if options.quick else 120
    )
    print(table(found))
    OUT.mkdir(parents=True, exist_ok=True)
    sheet(studio, encoder).save(OUT / "edits.png")
    print(f"pictures: {OUT / 'edits.png'}")
    print(json.dumps({"edit_quarter_over_full": round(found[1].over(found[0]), 3)}))


if __name__ == "__main__":
    main()
