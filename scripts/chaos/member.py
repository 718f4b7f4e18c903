"""`python -m scripts.chaos.member ROLE NAME FOLDER URL`: one process of a run, from outside.

A later version starts this one so, beside its own. Keep the arguments as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.chaos import clients, decoding, stages
from scripts.chaos.world import World

WISHES = 8


def main(role: str, name: str, folder: str, url: str) -> None:
    """name: a number for a decoder. `ledger` makes the tables and ends."""
    world = World(Path(folder), url)
    match role:
        case "ledger":
            world.ledger().close()
        case "decoder":
            decoding.serve(world, int(name))
        case "dispatcher":
            stages.dispatch(world, name)
        case "client":
            clients.serve(world, name, WISHES)
        case _:
            raise SystemExit(f"no such role: {role}")


if __name__ == "__main__":
    main(*sys.argv[1:])
