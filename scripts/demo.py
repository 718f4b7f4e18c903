"""`make demo`: boot the laptop cluster, draw through its HTTP API with the passes in sight, leave
pictures in out/, stop everything that was started. Exit code 0 only if all of that worked."""

from __future__ import annotations

import argparse
import base64
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from scripts.cluster import KEY, running
from scripts.sheet import contact_sheet, strip
from serve_app.config.serve_file import load_serve_config
from serve_app.operate.commands.api import Body, Service, ServiceError
from serve_app.operate.commands.generate import describe, slug
from serve_app.operate.serve_api import ClusterFailed

CONFIG = Path("configs/laptop.yaml")
OUT = Path("out")
PROMPTS = (
    "a strawberry",
    "a red apple on a yellow background",
    "a penguin",
    "a hamburger",
    "a rainbow",
    "a birthday cake on a blue background",
)
SEED = 7

console = Console(highlight=False)


@dataclass(frozen=True)
class Drawn:
    """What came of one prompt. previews: in the order of their passes, of the first image."""

    prompt: str
    seeds: list[int]
    pictures: list[bytes]
    previews: list[bytes]
    problems: list[str]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Boot, draw, leave pictures in out/, stop.")
    parser.add_argument(
        "prompt",
        nargs="?",
        default=os.environ.get("PROMPT"),
        help="draw this four times instead; also taken from the variable PROMPT",
    )
    prompt = parser.parse_args().prompt
    OUT.mkdir(exist_ok=True)
    # A shell's background job ignores SIGINT, and so would the service that we stop with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    try:
        with cluster() as service:
            if prompt:
                drawn = [draw_all(service, [prompt], n=4)[0]]
            else:
                drawn = draw_all(service, PROMPTS, n=1)
            files = save(drawn)
    except (ClusterFailed, ServiceError) as error:
        console.print(f"[red]The demo stopped:[/red] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; everything that was started is stopped.")
        return 130
    return report(drawn, files, time.monotonic() - began)


@contextmanager
def cluster() -> Iterator[Service]:
    """The laptop cluster while the block runs; afterwards nothing of it is left. Raises
    ClusterFailed."""
    config, began = load_serve_config(CONFIG), time.monotonic()
    with console.status("starting") as status, ExitStack() as stack:

        def say(line: str) -> None:
            status.update(f"{time.monotonic() - began:3.0f} s  {line[:100]}")

        served = stack.enter_context(running(config, say))
        status.stop()
        seconds = time.monotonic() - began
        console.print(f"The service is up at {served.api_url} after {seconds:.0f} s.")
        yield stack.enter_context(Service(served.api_url, KEY))
        status.start()
        status.update("stopping the service")


# Drawing


def draw_all(service: Service, prompts: tuple[str, ...] | list[str], n: int) -> list[Drawn]:
    """Every prompt at once, each followed on its own line."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(len(prompts)) as pool:
        work = [
            pool.submit(draw, service, prompt, n, progress, watched=place == 0)
            for place, prompt in enumerate(prompts)
        ]
        return [each.result() for each in work]


def draw(service: Service, prompt: str, n: int, progress: Progress, *, watched: bool) -> Drawn:
    """One job from its submission to its pictures. `watched`: ask for previews too."""
    wishes: Body = {"prompt": prompt, "n": n, "seed": SEED, "quality": "high", "size": "512x512"}
    job = service.submit(wishes | ({"partial_images": 3} if watched else {}))
    bar = progress.add_task(prompt, total=job["passes_total"], what="")
    previews = []
    for event in service.events(job["id"]):
        if event.name == "preview" and event.data["index"] == 0:
            previews.append(base64.b64decode(event.data["b64_json"]))
        elif event.name == "job":
            job = event.data
            show(progress, bar, job)
    done = [image for image in job["images"] if image["state"] == "succeeded"]
    return Drawn(
        prompt=prompt,
        seeds=[image["seed"] for image in done],
        pictures=[service.image(job["id"], image["index"]) for image in done],
        previews=previews,
        problems=[image["error"]["message"] for image in job["images"] if image["error"]],
    )


def show(progress: Progress, bar: TaskID, job: Body) -> None:
    """The job's passes, and the words about the image that is furthest behind."""
    last = min(job["images"], key=lambda image: image["passes_done"])
    progress.update(bar, completed=job["passes_done"], what=describe(job, last))


# What is left behind


def save(drawn: list[Drawn]) -> list[Path]:
    """Pictures, the strip of previews, the contact sheet. Their paths."""
    files, labelled = [], []
    for each in drawn:
        for seed, data in zip(each.seeds, each.pictures, strict=True):
            many = len(each.pictures) > 1
            files.append(OUT / f"{slug(each.prompt)}{f'-{seed}' if many else ''}.png")
            files[-1].write_bytes(data)
            label = f"seed {seed}" if many else each.prompt
            labelled.append((label, Image.open(BytesIO(data))))
    first = drawn[0]
    if first.previews and first.pictures:
        steps = [Image.open(BytesIO(data)) for data in [*first.previews, first.pictures[0]]]
        files.append(OUT / "previews.png")
        strip(steps).save(files[-1])
    if labelled:
        files.append(OUT / "sheet.png")
        contact_sheet(labelled).save(files[-1])
    return files


def report(drawn: list[Drawn], files: list[Path], seconds: float) -> int:
    """Say what is where and what to try next; the exit code."""
    problems = [f"{each.prompt}: {problem}" for each in drawn for problem in each.problems]
    for problem in problems:
        console.print(problem, style="red", markup=False)
    for file in files:
        console.print(f"  {file}")
    console.print(f"\nFrom nothing to pictures and stopped again in {seconds:.0f} s. Try next:")
    console.print('  make demo PROMPT="a cactus on a pink background"', markup=False)
    console.print("  make run        then open http://127.0.0.1:8000 and watch it draw")
    console.print('  .venv/bin/meltproof generate "a red fox" -o fox.png   (beside make run)')
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
