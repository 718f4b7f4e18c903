"""`meltproof diff`: what deploying a file would change, and what each change does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from serve_app.config.cluster import LiveSection
from serve_app.config.errors import ConfigError
from serve_app.operate.checking import check_file
from serve_app.operate.commands.operating import add_address, add_file, serve_at, speaker
from serve_app.operate.config_diff import Change, Effect, changes
from serve_app.operate.serve_api import ClusterFailed

STYLES = {
    Effect.LIVE: "green",
    Effect.SCALES: "green",
    Effect.ADDS: "green",
    Effect.TRIES_AGAIN: "yellow",
    Effect.RESTARTS_DEPLOYMENT: "yellow",
    Effect.RESTARTS_APPLICATION: "yellow",
    Effect.REMOVES: "red",
    Effect.IGNORED: "red",
}
HINT = f"""\
  (accepted renders go on from their checkpoints; under deployments, as the user_config of Gateway
  and Dispatcher, these change without a restart: {", ".join(LiveSection.model_fields)})"""

EPILOG = """\
exit codes: 0 nothing would change; 1 something would; 2 the file is wrong; 3 no cluster answers"""


def main(arguments: Sequence[str]) -> int:
    """Explain; the exit code."""
    parser = argparse.ArgumentParser(
        prog="meltproof diff",
        description="Explain an edited config file against what runs. Changes nothing.",
        epilog=EPILOG,
    )
    add_file(parser)
    add_address(parser)
    options = parser.parse_args(arguments)
    try:
        config, _ = check_file(options.file)
        found = changes(serve_at(options.address).status(), config)
    except (ConfigError, ClusterFailed) as error:
        lines = error.problems if isinstance(error, ConfigError) else (str(error),)
        speaker(stderr=True).print("\n".join(lines), style="red")
        return 2 if isinstance(error, ConfigError) else 3
    explain(found, speaker())
    return 1 if found else 0


def explain(found: Sequence[Change], console: Console) -> None:
    """The changes, those with the same effect together, the mildest first."""
    if not found:
        console.print("nothing to change: what the file says is deployed")
    for effect in STYLES:
        for where in dict.fromkeys(c.said() for c in found if c.effect is effect):
            console.print(f"{where}:", style=STYLES[effect])
            for change in found:
                if change.said() == where:
                    console.print(f"  {change.path}: {change.before} -> {change.after}")
        if effect is Effect.RESTARTS_APPLICATION and any(c.effect is effect for c in found):
            console.print(HINT)
