"""Signals over a file's times: heard by every listener, and none is missed in between."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobs.db.file_signal import FileSignal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


def test_every_listener_hears_a_signal_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    sender, *listeners = (FileSignal(path) for _ in range(3))
    for listener in listeners:
        listener.listen()
    sender.send()
    sender.send()
    assert [listener.wait(60.0) for listener in listeners] == [True, True]
    assert [listener.wait(0.0) for listener in listeners] == [False, False]
    path.write_bytes(b"what is written to it is no signal")
    assert not listeners[0].wait(0.0)
    for signal in (sender, *listeners):
        signal.close()


def test_without_a_file_nothing_is_heard_and_nothing_fails(tmp_path: Path) -> None:
    signal = FileSignal(tmp_path / "none")
    signal.send()
    signal.listen()
    assert not signal.wait(0.0)
    signal.close()
