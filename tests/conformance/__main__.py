"""`python -m tests.conformance`: ask a live service for every row of the table through the
official Python SDK, the official Node SDK and plain HTTP, then through LiteLLM's proxy; write the
page. The last line is one JSON object."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.conformance import litellm
from tests.conformance.clients import CLIENTS, NODE, Client, NodeSdk
from tests.conformance.litellm import LITELLM
from tests.conformance.page import PAGE, markdown
from tests.conformance.reference import missing
from tests.conformance.row import Row
from tests.conformance.service import KEY, PACED, service
from tests.conformance.table import ROWS


def ask_all(lanes: dict[str, str], rows: tuple[Row, ...]) -> dict[Row, list[str]]:
    """What is wrong with each row that was asked; nothing for one that holds."""
    found: dict[Row, list[str]] = {}
    with ExitStack() as stack:
        for name, client in CLIENTS.items():
            clients: dict[str, Client] = {
                lane: stack.enter_context(client(url, KEY)) for lane, url in lanes.items()
            }
            for row in rows:
                if name in row.clients:
                    problems = found.setdefault(row, [])
                    problems += ask(row, clients[row.lane])
            print(f"{name}: {sum(name in row.clients for row in rows)} rows", flush=True)
    return found


def ask(row: Row, client: Client) -> list[str]:
    """What is wrong with one row through one client."""
    try:
        row.check(client)
    except Exception as error:  # noqa: BLE001 - whatever it is, the row does not hold
        return [f"{client.name}: {row.id}: {type(error).__name__}: {error}"]
    return []


def install_node() -> None:
    """The Node SDK at its pinned version, beside the bridge."""
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE, check=True)
    if (why := NodeSdk.missing()) is not None:
        raise SystemExit(why)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask for every row of the reference.")
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    PAGE.write_text(markdown(ROWS), encoding="utf-8")
    print(f"wrote {PAGE}")
    if options.page:
        return
    install_node()
    litellm.install()
    with service() as lanes, tempfile.TemporaryDirectory() as folder:
        found = ask_all(lanes, ROWS)
        with litellm.proxy(lanes["paced"], Path(folder), PACED["name"]) as proxied:
            for row in LITELLM:
                found[row] = ask(row, proxied[row.clients[0]])
        print(f"litellm: {len(LITELLM)} rows", flush=True)
    problems = [problem for row in found.values() for problem in row]
    absent = missing(ROWS)
    for line in problems + [f"no row: {entry}" for entry in absent]:
        print(line)
    covered = len(found) / (len(ROWS) + len(absent))
    print(json.dumps({"covered": round(covered, 4), "failed": len(problems)}))


if __name__ == "__main__":
    main()
