"""What the engine draws on this chip beside the stock pipelines: no Ray, no files but a temporary
Janus checkpoint, no weights but random ones. Each part takes less than 8 minutes.

    python -m scripts.bench_gpu                    # all parts, on a GPU
    python -m scripts.bench_gpu --only sdxl dit
    python -m scripts.bench_gpu --tiny             # on a CPU: does it run?

Needs torch, diffusers, transformers, greenlet, psutil and this repository; joules need pynvml
(nvidia-ml-py) and a GPU, and are left out without. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from engine.decoders.device import device_of, dtype_of
from engine.decoders.diffusers.decoder import DiffusersDecoder
from engine.decoders.diffusers.request import tensors_of
from engine.decoders.diffusers.trial import trial_spec
from engine.decoders.janus.decoder import JanusDecoder
from engine.engine import DecoderEngine
from engine.measuring import Memory, measured
from engine.model_directory.capacity import GIB
from engine.render import RenderSpec, RenderUpdate
from scripts import gpu_models, measure_janus
from scripts.gpu_models import Shape

PART_SECONDS = 480.0
MIXED_STEPS = (0.2, 0.5, 1.0, 2.0)
"""Shares of the shape's own steps."""
Row = dict[str, Any]


@dataclass(slots=True)
class Bench:
    """One run. images: of each measurement."""

    device: torch.device
    dtype: torch.dtype
    tiny: bool
    images: int
    slots: int
    compile: bool
    attention: str

    @property
    def options(self) -> dict[str, Any]:
        """Of every decoder."""
        name = str(self.dtype).removeprefix("torch.")
        return {"device": self.device.type, "dtype": name}

    def measure(self, memory: Memory, name: str, images: int, draw: Callable[[], object]) -> Row:
        """Images a second, the most that was held, and joules an image where they are counted."""
        joules = _joules(self.device)
        before, began = joules(), time.perf_counter()
        with memory.peak() as peak:
            draw()
        seconds = time.perf_counter() - began
        row: Row = {"name": name, "images_per_s": images / seconds, "peak_gib": peak.held / GIB}
        if (after := joules()) is not None and before is not None:
            row["joules_per_image"] = (after - before) / images
        return told(row)


def told(row: Row) -> Row:
    """Print it."""
    numbers = "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in row.items()
        if key != "name"
    )
    print(f"{row['name']:44} {numbers}", flush=True)
    return row


def _joules(device: torch.device) -> Callable[[], float | None]:
    """The counter of a GPU's energy since its driver was loaded; None where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # noqa: BLE001 - no module, no driver, or a chip that does not count
        return lambda: None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def ceilings(bench: Bench) -> list[Row]:
    """What the chip can do at most: products of matrices, and copies."""
    edge = 256 if bench.tiny else 8192
    a = torch.randn(edge, edge, device=bench.device).to(bench.dtype)
    took = _seconds(lambda: a @ a, bench.device)
    rows = [told({"name": f"GEMM of {edge}", "tflops": 2 * edge**3 / took / 1e12})]
    source = torch.empty(2**20 if bench.tiny else 2**30, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    took = _seconds(lambda: target.copy_(source), bench.device)
    return [
        *rows,
        told({"name": "memory, read and written", "gb_per_s": 2e-9 * len(source) / took}),
    ]


def _seconds(work: Callable[[], object], device: torch.device, times: int = 20) -> float:
    """Of one call, behind a few that warm up."""
    for _ in range(3):
        work()
    _wait(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - began) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pipeline(bench: Bench, shape: Shape) -> list[Row]:
    """The same images from the stock pipeline and from the engine; what does not fit into the time
    of the part is left out, and said."""
    ends = time.perf_counter() + PART_SECONDS
    loaded = shape.build(bench.device, bench.dtype)
    weights = {"name": f"{shape.name}: weights", "gib": loaded.load.size_bytes / GIB}
    rows = [told({**weights, "seconds_to_make": loaded.load.seconds})]
    more = {"compile": bench.compile, "attention": bench.attention}
    decoder = DiffusersDecoder(loaded, **bench.options, **more)
    report = measured(decoder, bench.slots)
    print(f"  {report.sentences(bench.slots)}", flush=True)
    rows.append({"name": f"{shape.name}: ms of a pass by width", **_ms(report.seconds)})
    uniform = [_spec(decoder, shape, n, shape.steps) for n in range(bench.images)]
    steps = [max(2, round(shape.steps * share)) for share in MIXED_STEPS]
    mixed = [_spec(decoder, shape, n, steps[n % len(steps)]) for n in range(bench.images)]
    stock, slots, wide = Stock(decoder), bench.slots, min(bench.slots, bench.images)
    for name, specs, draw in (
        ("stock, one at a time", uniform, lambda: stock.one_at_a_time(uniform)),
        (f"stock, batches of {wide}", uniform, lambda: stock.batched(uniform, wide)),
        ("ours, one at a time", uniform, lambda: ours(decoder, 1, uniform)),
        (f"ours, {slots} slots", uniform, lambda: ours(decoder, slots, uniform)),
        ("stock, mixed steps, one at a time", mixed, lambda: stock.one_at_a_time(mixed)),
        (f"ours, mixed steps, {slots} slots", mixed, lambda: ours(decoder, slots, mixed)),
    ):  # fmt: skip
        slowest = max((len(specs) / row["images_per_s"] for row in rows[2:]), default=0.0)
        if time.perf_counter() + slowest > ends:
            print(f"{shape.name}: {name} is left out: no time", flush=True)
            continue
        rows.append(bench.measure(decoder.memory, f"{shape.name}: {name}", len(specs), draw))
    return rows


def _ms(seconds: Any) -> dict[str, float]:
    return {f"width {width}": took * 1000 for width, took in seconds.items()}


def _spec(decoder: DiffusersDecoder, shape: Shape, number: int, steps: int) -> RenderSpec:
    made_up = trial_spec(decoder.pipe, shape.pipeline, shape.edge, number, steps)
    return replace(made_up, render_id=str(number))


class Stock:
    """The stock pipeline on the decoder's own weights: outside of lanes its calls are not cut."""

    def __init__(self, decoder: DiffusersDecoder) -> None:
        self._pipe = decoder.pipe

    def one_at_a_time(self, specs: Sequence[RenderSpec]) -> None:
        """As behind a lock."""
        for spec in specs:
            self._draw([spec])

    def batched(self, specs: Sequence[RenderSpec], width: int) -> None:
        """All of a batch begin and end together."""
        for start in range(0, len(specs), width):
            self._draw(specs[start : start + width])

    def _draw(self, specs: Sequence[RenderSpec]) -> None:
        texts = [tensors_of(s.conditioning, self._pipe.device, self._pipe.dtype) for s in specs]
        self._pipe(
            **{name: torch.stack([text[name] for text in texts]) for name in texts[0]},
            num_inference_steps=specs[0].passes,
            guidance_scale=specs[0].guidance,
            width=specs[0].width,
            height=specs[0].height,
            generator=[torch.Generator().manual_seed(spec.seed) for spec in specs],
            output_type="np",
        )


def ours(decoder: Any, slots: int, specs: Sequence[RenderSpec]) -> None:
    """All of them through an engine. RuntimeError when one fails."""
    failed: list[str] = []

    def heard(update: RenderUpdate) -> None:
        if update.error:
            failed.append(update.error)

    engine = DecoderEngine(decoder, slots, heard)
    waiting = list(specs)
    while waiting:
        while waiting and engine.free_slots:
            engine.add(waiting.pop(0))
        engine.step()
    engine.drain()
    engine.stop()
    if failed:
        raise RuntimeError(failed[0])


def sdxl(bench: Bench) -> list[Row]:
    """A U-Net with guidance."""
    return pipeline(bench, gpu_models.TINY_SDXL if bench.tiny else gpu_models.SDXL)


def dit(bench: Bench) -> list[Row]:
    """A distilled transformer of 12 billion parameters."""
    return pipeline(bench, gpu_models.TINY_FLUX if bench.tiny else gpu_models.FLUX)


def janus(bench: Bench) -> list[Row]:
    """Image tokens one by one, through a checkpoint that is written and read."""
    shape = measure_janus.TINY if bench.tiny else measure_janus.ONE_BILLION
    with tempfile.TemporaryDirectory() as folder:
        with bench.device:
            measure_janus.save_checkpoint(Path(folder), shape, bench.dtype)
        decoder = JanusDecoder(folder, slots=bench.slots, **bench.options)
        model = transformers.JanusForConditionalGeneration.from_pretrained(
            folder, dtype=bench.dtype
        ).eval().to(bench.device)  # fmt: skip
    print(f"  {measured(decoder, bench.slots).sentences(bench.slots)}", flush=True)
    rows: list[Row] = []
    tokens = shape.pass_tokens if bench.tiny else 2 * shape.pass_tokens
    part = tokens / shape.cells
    for width in sorted({1, bench.slots}):
        for name, draw in (
            ("generate", lambda w=width: measure_janus.stock(model, shape, w, tokens)),
            ("ours", lambda w=width: measure_janus.ours(decoder, shape, w, tokens)),
        ):
            draw()
            row = bench.measure(
                decoder.memory, f"{shape.name}: {name}, {width} at a time", width * part, draw
            )
            rows.append({**row, "tokens_per_s": row["images_per_s"] * shape.cells})
    return rows


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "ceilings": ceilings,
    "sdxl": sdxl,
    "dit": dit,
    "janus": janus,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """See above. arguments: of the command line."""
    parser = argparse.ArgumentParser(description="The engine beside stock pipelines on this chip.")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="shapes for a CPU, to try the script")
    parser.add_argument("--images", type=int, default=8, help="of each measurement")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--attention", default="", help="of the DiT: a backend that is installed")
    chosen = parser.parse_args(arguments)
    device = device_of(chosen.device)
    if device.type != "cuda" and not chosen.tiny:
        parser.error("there is no GPU: --tiny tries the script on a CPU")
    dtype = dtype_of(chosen.dtype, device)
    options = (chosen.tiny, chosen.images, chosen.slots, chosen.compile, chosen.attention)
    bench = Bench(device, dtype, *options)
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    counted = "" if _joules(device)() is not None else ", joules are left out: no NVML counter"
    print(f"{chip}, {dtype}, torch {torch.__version__}, diffusers {diffusers.__version__}{counted}")
    found: dict[str, Any] = {"chip": chip, "dtype": str(dtype), "torch": torch.__version__}
    for name in chosen.only:
        with torch.inference_mode() if name != "janus" else nullcontext():
            found[name] = PARTS[name](bench)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
