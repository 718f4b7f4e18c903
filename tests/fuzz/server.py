"""`python -m tests.fuzz.server FOLDER`: the service to fuzz, in a process of its own, until its
standard input ends. The first line it prints is its address."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.page.pipeline import CONFIG, Pipeline

KEYS = {"sk-fuzz": "ada", "sk-other": "bob"}
UNLIMITED = 1e9
FUZZED = {
    **CONFIG,
    "keys": [{"key": key, "tenant": tenant} for key, tenant in KEYS.items()],
    "tiers": {"free": {}},
    "temporary_limits": [],
    "webhooks": {"endpoints": 100_000},
    "limits": {
        "images": 2,
        "max_pixels": 256 * 256,
        "files": 100_000,
        "polls_per_second": UNLIMITED,
        "refused_per_second": UNLIMITED,
        "unauthenticated_per_second": UNLIMITED,
    },
}
"""Small pictures, and no limit on how often one may ask: what is fuzzed is the rest."""


def main() -> None:
    pipeline = Pipeline(Path(sys.argv[1]), FUZZED)
    print(pipeline.url, flush=True)
    sys.stdin.read()
    pipeline.close()


if __name__ == "__main__":
    main()
