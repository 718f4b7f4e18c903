"""Servers that benches start."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from scripts.children import await_start, listens
from serve_app.operate.local_cluster import free_port


def test_a_server_that_ends_before_it_answers_tells_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as said:
        ended = subprocess.Popen([sys.executable, "-c", "print('port taken')"], stdout=said)
    there = partial(listens, "127.0.0.1", free_port())
    with pytest.raises(TimeoutError, match="Redis did not start: port taken"):
        await_start("Redis", ended, there, log)
    assert ended.wait() == 0
