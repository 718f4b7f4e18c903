"""`python -m scripts.masked_speed`: pictures a second of the embedded model's engine alone.

By precision and by renders in the batch, on one thread and by its processor time, so that other
programs on the machine disturb it little. The last line is one JSON object.
"""

from __future__ import annotations

import json
import statistics
import time

from engine.decoders.masked import MaskedDecoder
from engine.precision import AUTO, PRECISIONS, precision_of
from engine.render import Conditioning, RenderSpec
from engine.scene import SceneCodes

WIDTHS = (1, 2, 4, 8)
PASSES = 12
REPEATS = 5


def pictures_per_second(decoder: MaskedDecoder, width: int) -> float:
    """From the encoded prompt to the pixels, median of REPEATS batches; one more warms up."""
    rates = [_rate(decoder, width) for _ in range(REPEATS + 1)]
    return statistics.median(rates[1:])


def _rate(decoder: MaskedDecoder, width: int) -> float:
    specs = [_spec(number) for number in range(width)]
    began = time.thread_time()
    renders = [decoder.begin(spec, None) for spec in specs]
    for _ in range(PASSES):
        decoder.step(renders)
    for render in renders:
        decoder.finish(render)
    return width / (time.thread_time() - began)


def _spec(number: int) -> RenderSpec:
    """A made-up prompt: what it says does not change what a pass costs."""
    prompt = Conditioning.from_numpy(str(number), **SceneCodes(((number, -1, 1),)).arrays())
    return RenderSpec(str(number), prompt, seed=number, passes=PASSES)


def main() -> None:
    print(f"auto on this processor: {precision_of(AUTO, 'cpu')}")
    found: dict[str, dict[int, float]] = {}
    for precision in PRECISIONS:
        decoder = MaskedDecoder(threads=1, device="cpu", dtype=precision)
        found[precision] = {w: round(pictures_per_second(decoder, w), 2) for w in WIDTHS}
        said = ", ".join(f"{rate} at {width}" for width, rate in found[precision].items())
        print(f"{precision}: {said}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
