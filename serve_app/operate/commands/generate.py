"""`meltproof generate`: a prompt in, picture files out, with the passes in sight meanwhile."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from serve_app.operate.commands.api import Body, Service, ServiceError, add_service_arguments

EPILOG = """\
exit codes: 0 every picture was written; 1 the service refused, or a picture was blocked or failed;
2 wrong arguments; 3 nothing answers at the address; 130 interrupted (the job is cancelled)"""

FORMATS = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
WAITING = frozenset({"queued", "leased"})


def main(arguments: Sequence[str]) -> int:
    """Draw, save, report; the exit code."""
    options = _parse(arguments)
    console = Console(stderr=True, highlight=False)
    try:
        with Service(options.base_url, options.key) as service:
            return _draw(service, service.submit(_request(options)), options.output, console)
    except ServiceError as error:
        console.print(f"[red]{type(error).__name__}:[/red] ", end="")
        console.print(str(error), markup=False, soft_wrap=True)
        return error.exit_code
    except OSError as error:
        wrong = f"{error.filename or options.output}: cannot be written: {error.strerror}"
        console.print(wrong, style="red", markup=False, soft_wrap=True)
        return 1


def _draw(service: Service, job: Body, output: Path, console: Console) -> int:
    try:
        job = _follow(service, job, console)
    except KeyboardInterrupt:
        service.cancel(job["id"])
        console.print("Interrupted; the job is cancelled.")
        return 130
    complete = True
    for image in job["images"]:
        if image["state"] == "succeeded":
            path = output if job["n"] == 1 else _numbered(output, image["index"])
            path.write_bytes(service.image(job["id"], image["index"]))
            Console(soft_wrap=True, highlight=False).print(str(path), markup=False)
        else:
            complete = False
            reason = (image["error"] or {}).get("message", image["state"])
            console.print(f"Picture {image['index'] + 1}: {reason}", style="red", markup=False)
    return 0 if complete else 1


def _follow(service: Service, job: Body, console: Console) -> Body:
    """Show the passes until the job has ended; the ended job."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        bars = [
            progress.add_task(_title(job, image["index"]), total=image["passes_total"], what="")
            for image in job["images"]
        ]
        _show(progress, bars, job)
        for event in service.events(job["id"]):
            if event.name == "job":
                job = event.data
                _show(progress, bars, job)
    return job


def _show(progress: Progress, bars: list[TaskID], job: Body) -> None:
    for bar, image in zip(bars, job["images"], strict=True):
        progress.update(bar, completed=image["passes_done"], what=describe(job, image))


def describe(job: Body, image: Body) -> str:
    """Where one image is, in a few words."""
    if job["state"] in WAITING and image["state"] == "waiting":
        ahead = job["queue_position"]
        if ahead is None or job["state"] == "leased":
            return "next"
        return ("first in the queue" if ahead == 0 else f"{ahead} ahead in the queue") + _eta(job)
    if image["state"] == "rendering":
        return f"pass {image['passes_done']}/{image['passes_total']}{_eta(job)}"
    return {"waiting": "waiting", "succeeded": "done"}.get(image["state"], str(image["state"]))


def _eta(job: Body) -> str:
    seconds = job.get("eta_seconds")
    return "" if seconds is None else f", about {max(1, round(seconds))} s"


def _title(job: Body, index: int) -> str:
    prompt = job["prompt"] if len(job["prompt"]) <= 40 else job["prompt"][:39] + "…"
    return prompt if job["n"] == 1 else f"{prompt} #{index + 1}"


def _numbered(path: Path, index: int) -> Path:
    return path.with_name(f"{path.stem}-{index + 1}{path.suffix}")


def _request(options: argparse.Namespace) -> Body:
    body = {
        "prompt": options.prompt,
        "model": options.model,
        "n": options.n,
        "size": options.size,
        "quality": options.quality,
        "seed": options.seed,
        "output_format": FORMATS[options.output.suffix.lower()],
    }
    return {name: value for name, value in body.items() if value is not None}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="meltproof generate",
        description="Draw a picture from a prompt and save it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", help='what to draw, e.g. "a red fox"')
    parser.add_argument(
        *("-o", "--output"),
        type=Path,
        metavar="FILE",
        help="where to save; .png, .webp or .jpg (default: named after the prompt)",
    )
    parser.add_argument("--model", help="which of the service's models (default: its first)")
    parser.add_argument("-n", type=int, default=1, help="how many pictures (default 1)")
    parser.add_argument("--size", help="WIDTHxHEIGHT, both divisible by 16 (default: the model's)")
    parser.add_argument("--quality", help="low, medium, high, xhigh or max: how many passes")
    parser.add_argument("--seed", type=int, help="the same seed draws the same picture")
    add_service_arguments(parser)
    options = parser.parse_args(arguments)
    options.output = options.output or Path(f"{slug(options.prompt)}.png")
    if options.output.suffix.lower() not in FORMATS:
        parser.error(
            f"cannot save as {options.output.suffix or 'a file without an ending'}; "
            f"use one of {' '.join(FORMATS)}"
        )
    if not options.output.parent.is_dir():
        parser.error(f"there is no folder {options.output.parent}")
    if options.output.is_dir():
        parser.error(f"{options.output} is a folder")
    return options


def slug(prompt: str) -> str:
    """A prompt as a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60] or "picture"
