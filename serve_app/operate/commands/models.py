"""`meltproof models`: look into a checkpoint directory before a replica starts, put it into a
config file, list what a config file serves."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from engine.model_directory.capacity import GIB, estimate_slots
from engine.model_directory.directory import ModelDirectory
from engine.model_directory.geometry import OddConfig
from engine.model_directory.json_file import ModelRefused
from engine.model_directory.known import read_known
from engine.registry import FAMILIES
from serve_app.config.cluster import ClusterConfig
from serve_app.config.errors import ConfigError
from serve_app.config.secret_fields import hidden
from serve_app.config.serve_file import (
    GATEWAY,
    MODEL,
    WHOLE,
    Application,
    ServeFile,
    load_serve_config,
    parse_serve_config,
)
from serve_app.config.sizes import parse_size
from serve_app.operate.application_edit import with_application
from serve_app.operate.checking import check_text
from serve_app.operate.commands.operating import a_number, speaker
from serve_app.operate.model_edit import with_model
from serve_app.operate.model_report import parts, room, summary, totals

LAPTOP = "configs/laptop.yaml"
MOST_GIB = 100_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""What names of files may hold and a terminal would obey."""
HUB_FOLDER = re.compile(r"models--.+?--(.+)")
MOST_SLOTS = 64
"""That `add` writes: past it a pass gets slower and no render is drawn sooner."""
EPILOG = """\
Only JSON files and the headers of safetensors files are read: no tensor, and no code of the folder.
`add` puts the model behind the others of its lane, which clients then choose by name: into the list
`models`, or as an application of its own where the lane's gateway is one.

exit codes: 0 done; 1 the directory cannot be served; 2 wrong arguments or config"""


def main(arguments: Sequence[str]) -> int:
    """Do one thing about models; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.action == "list":
            return _list(options.config)
        model = read_known(Path(options.directory))
        return _check(model, options) if options.action == "check" else _add(model, options)
    except (ModelRefused, OddConfig) as error:
        problems = error.problems if isinstance(error, ModelRefused) else (str(error),)
        for problem in problems:
            speaker(stderr=True).print(CONTROL.sub("?", problem), style="red")
        return 1
    except ConfigError as error:
        speaker(stderr=True).print("\n".join(error.problems), style="red")
        return 2


def _check(model: ModelDirectory, options: argparse.Namespace) -> int:
    console = speaker()
    console.print(f"{CONTROL.sub('?', str(model.path))}: ok", style="green")
    for line in summary(model):
        console.print(line)
    console.print()
    console.print(parts(model))
    console.print()
    for line in totals(model):
        console.print(line)
    if options.memory_gib is not None:
        for line in room(model, options.memory_gib * GIB):
            console.print(line)
    return 0


def _add(model: ModelDirectory, options: argparse.Namespace) -> int:
    if model.known.family not in FAMILIES:
        raise ModelRefused(f"{model.path}: family {model.known.family} is not in this version")
    path = os.path.realpath(options.to)  # what a link names is edited; the link stays
    before = _read(path)
    document, file = check_text(before, options.to)
    number = _application(file, options)
    found = file.applications[number]
    entry = _entry(model, file, found, options)
    apart = found.import_path != WHOLE
    after = (with_application if apart else with_model)(before, number, entry, options.to)
    check_text(after, options.to)
    for line in _difference(before, after, options.to):
        speaker().print(hidden(line, ServeFile, document), style=STYLES.get(line[0]))
    if not options.dry_run:
        _replace(path, after)
        said = f"{options.to}: has model {entry['name']}; next: meltproof check, then run or apply"
        speaker(stderr=True).print(said, style="green")
    return 0


def _application(file: ServeFile, options: argparse.Namespace) -> int:
    """The one that gets the model; where gateway and models are applications of their own, the one
    that the new application will be like: a model of the lane, before its gateway. ConfigError."""
    chosen = [app for app in file.applications if options.application in (None, app.name)]
    for found in chosen[:1]:
        if found.import_path == GATEWAY:
            beside = [a for a in file.applications if a.import_path == MODEL and a.beside(found)]
            found = (beside or [found])[0]
        return file.applications.index(found)
    names = ", ".join(found.name for found in file.applications)
    raise ConfigError(f"{options.to}: --application: is not {options.application!r}, but: {names}")


STYLES = {"+": "green", "-": "red"}


def _entry(
    model: ModelDirectory, file: ServeFile, found: Application, options: argparse.Namespace
) -> dict[str, Any]:
    """Of `models`, with a decoder section of its own."""
    name, slots = options.name or _name(model.path), _slots(model, options)
    lane = [one for app in file.applications if app.beside(found) for one in app.models()]
    if name in {known for one in lane for known in (one.model.name, *one.model.aliases)}:
        raise ConfigError(f"{options.to}: has a model {name!r} already; say --name")
    if found.import_path != WHOLE and name in {app.name for app in file.applications}:
        raise ConfigError(f"{options.to}: has an application {name!r} already; say --name")
    family: dict[str, Any] = {"weights": os.path.abspath(model.path)}
    if options.memory_gib is not None:
        family["dtype"] = "bfloat16"  # what the estimate is for
    if model.known.family == "janus":
        family["slots"] = slots  # whose keys and values it allocates when it starts
    section = {"name": name, "family": model.known.family, "options": family}
    decoder = found.args.decoder.model_dump(exclude_defaults=True) | {"slots": slots}
    return section | _size(model.geometry.edge) | {"decoder": decoder}


def _size(edge: int) -> dict[str, str]:
    """Unless requests cannot spell it."""
    try:
        parse_size(text := f"{edge}x{edge}")
    except ValueError:
        return {}
    return {"size": text}


def _slots(model: ModelDirectory, options: argparse.Namespace) -> int:
    if options.memory_gib is None:
        return 1
    found = estimate_slots(model, options.memory_gib * GIB)
    if found.slots < 1:
        raise ModelRefused(
            f"{model.path}: does not fit {options.memory_gib:g} GiB: {found.formula}"
        )
    return min(found.slots, MOST_SLOTS)


def _name(directory: Path) -> str:
    """Of the model: that of the folder, or of the repository in a hub cache."""
    parts = Path(os.path.abspath(directory)).parts
    name = next((m[1] for part in parts if (m := HUB_FOLDER.fullmatch(part))), parts[-1])
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:64] or "model"


def _read(path: str) -> str:
    """With its line ends as they are. ConfigError."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8: {error.reason}") from None


def _replace(path: str, text: str) -> None:
    """Whole or not at all, with the owner's permissions. ConfigError."""
    new = f"{path}.new"
    try:
        with open(new, "x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, new)
        os.replace(new, path)
    except OSError as error:
        raise ConfigError(f"{new}: cannot be written: {error.strerror}") from None


def _difference(before: str, after: str, name: str) -> list[str]:
    """Changed lines alone: those around them may hold secrets."""
    lines = before.splitlines(), after.splitlines()
    return list(difflib.unified_diff(lines[0], lines[1], name, name, n=0, lineterm=""))


def _list(config: str) -> int:
    table = Table(box=None, pad_edge=False)
    for title in ("application", "route", "queue", "model", "family", "weights", "size", "slots"):
        table.add_column(title, overflow="fold")
    for application in parse_serve_config(load_serve_config(config), config).applications:
        for one in application.models():
            table.add_row(application.name, application.route_prefix or "-", *_row(one))
    speaker().print(table)
    return 0


def _row(one: ClusterConfig) -> list[str]:
    """Of a lane that has only this model."""
    model, names = one.model, ", ".join((one.model.name, *one.model.aliases))
    weights = str(model.options.get("weights") or "-")
    slots = f"{one.decoder.replicas} x {one.decoder.slots}"
    return [one.queue, names, model.family, weights, model.size, slots]


def _a_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"must be letters, digits and any of . _ -, not {text!r}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof models",
        description="Look into a checkpoint directory of diffusers or transformers before a "
        "replica starts: what it can do, what it loads, whether it fits.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    directory = argparse.ArgumentParser(add_help=False)
    directory.add_argument("directory", metavar="DIR", help="a folder with model_index.json")
    directory.add_argument(
        "--memory-gib",
        type=a_number(0, MOST_GIB, above=True),
        metavar="N",
        help="of one GPU: estimate the slots that fit",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("check", parents=[directory], help="say what the directory holds and can do")
    add = actions.add_parser("add", parents=[directory], help="write it into a config file")
    add.add_argument("--to", required=True, metavar="CONFIG", help="the config file to edit")
    add.add_argument("--name", type=_a_name, help="for clients (default: the folder's)")
    add.add_argument("--application", metavar="NAME", help="which of the file's (default: first)")
    add.add_argument("--dry-run", action="store_true", help="show the edit and write nothing")
    listing = actions.add_parser("list", help="show the models that a config file serves")
    listing.add_argument("config", nargs="?", default=LAPTOP, metavar="CONFIG", help=f"({LAPTOP})")
    return parser
