"""Gateways that are killed while they accept, feed and finish batches; an audit of every line."""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import openai
from sqlalchemy import text

from scripts.batch.__main__ import LANE, ROOT, gateway, send
from scripts.children import await_ready, children
from scripts.fairness.worker import LaneOrder, command
from scripts.postgres import side_door
from scripts.report import say

LINES, BATCHES = 200, 2
SLOTS, PASS_MS = 8, 5.0
LONGEST_LIFE_SECONDS = 14.0
"""Of a gateway: a lease of a batch and a little more, so that some die before they have it."""
PATIENCE_SECONDS = 240.0
ENDED = ("completed", "failed", "expired", "cancelled")


def batches(kills: int, seed: int) -> dict[str, Any]:
    """lines_twice: those with a second job or a second result. lost: those without a result."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/ledger.db"
        with gateway(Path(folder)) as (client, _):
            ids = [send(client, LINES).id for _ in range(BATCHES)]
            # killed at the end of this block, in the middle of validating
        with children([command(LaneOrder(url, LANE, SLOTS, PASS_MS, 0.0))], cwd=ROOT) as lane:
            await_ready(lane)
            for _ in range(kills):
                with gateway(Path(folder)):
                    time.sleep(chance.uniform(0.2, LONGEST_LIFE_SECONDS))
            with gateway(Path(folder)) as (client, _):
                files = [_files(client, batch_id) for batch_id in ids]
        return _audit(url, files, kills)


def _files(client: openai.OpenAI, batch_id: str) -> Counter[str]:
    """How many results each line has, once the batch has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (batch := client.batches.retrieve(batch_id)).status not in ENDED:
        if time.monotonic() > deadline:
            say(f"  {batch_id} is still {batch.status}: {batch.request_counts}")
            return Counter()
        time.sleep(0.5)
    found = Counter[str]()
    for file in (batch.output_file_id, batch.error_file_id):
        rows = client.files.content(file).text.splitlines() if file else []
        found.update(json.loads(row)["custom_id"] for row in rows)
    return found


def _audit(url: str, files: list[Counter[str]], kills: int) -> dict[str, Any]:
    engine = side_door(url)
    with engine.connect() as connection:
        jobs = connection.execute(text("select count(*) from jobs where tier = 'batch'")).scalar()
        named = connection.execute(
            text("select count(distinct job_id) from batch_lines where job_id is not null")
        ).scalar()
    engine.dispose()
    results_twice = sum(count - 1 for found in files for count in found.values())
    lost = sum(LINES - len(found) for found in files)
    return {
        "gateways_killed": kills + 1,
        "lines": LINES * BATCHES,
        "lines_twice": int(jobs or 0) - int(named or 0) + results_twice,
        "lost": lost,
    }
