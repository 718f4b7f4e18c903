"""Every command and flag with values that no one means: words and an exit code, no traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from serve_app.__main__ import main
from tests.stages.checkpoint_folders import FLUX, pipeline_folder

NOWHERE = "http://127.0.0.1:1"
SECRET = "sesame"
OF_FILES = (
    ("check", "{}"),
    ("diff", "{}", "--address", NOWHERE),
    ("apply", "{}", "--yes", "--address", NOWHERE),
    ("keys", "list", "--config", "{}"),
    ("keys", "token", "t", "--config", "{}"),
    ("limits", "{}"),
    ("erase", "t", "--config", "{}"),
)
OF_MODELS = (
    ("models", "list", "{}"),
    ("models", "check", "{}"),
    ("models", "add", "{}", "--to", "@/good"),
    ("models", "add", "@/model", "--to", "{}"),
)
OF_CONFIGS = (("run", "{}"), ("simulate", "{}", "--scenario", "steady"))
BROKEN = (
    *("@/missing", "@/folder", "@/binary", "@/empty", "@/list", "@/deep", ""),
    *("x" * 5000, "/dev/null", "/proc/self/mem", "a\nb", "[/red]"),
)
LEDGERS = (
    "no-folder",
    "a-folder",
    "no-database",
    "password",
    "port",
    "parameter",
    "address",
    "nul",
)
URLS = (
    *("", "nonsense", "http://", "http://[::1", "http://127.0.0.1:99999", "ftp://127.0.0.1"),
    *(NOWHERE, "http://exa mple", "http://127.0.0.1:abc", f"http://u:{SECRET}@127.0.0.1:1"),
    *("http://u:ses/ame@127.0.0.1:1", f"http://{'a' * 300}", "//127.0.0.1:1", "http://xn--a"),
    *(f"{NOWHERE}\r\nX: y", f"{NOWHERE}/\x7f", "file:///etc/passwd"),
)
OF_URLS = (
    ("status", "--base-url", "{}"),
    ("diff", "@/good", "--address={}"),
)
KEYS = ("", "ключ", "sk\r", "sk-local\n", "a b", f"{SECRET}\r\nX: y", "\x1b", "é" * 10)
OF_KEYS = (
    ("status", "--base-url", NOWHERE, "--key", "{}"),
    ("generate", "x", "-o", "@/x.png", "--base-url", NOWHERE, "--key", "{}"),
)
NUMBERS = ("nan", "-1", "inf", "1e999", "0", "1e308", "x", "", "9" * 23)
PLAN = ("plan", "--model=meltproof-emoji", "--gpu=h200", "--p95-wait=9")
OF_NUMBERS = (
    ("check", "@/good", "--cpus=1", "--nodes={}"),
    ("check", "@/good", "--cpus={}"),
    ("limits", "@/good", "--last={}"),
    ("keys", "token", "t", "--config", "@/good", "--days={}"),
    ("generate", "x", "-o", "@/x.png", "--base-url", NOWHERE, "-n={}"),
    (*PLAN, "--images-per-week={}", "--peak-factor=3"),
    (*PLAN, "--images-per-week=1e6", "--peak-factor={}"),
    (*PLAN, "--images-per-week=1e6", "--peak-factor=3", "--set={}"),
    ("run", "@/missing", "--dashboard-port={}"),
    ("models", "check", "@/model", "--memory-gib={}"),
)
WORDS = ("", "a b", "x" * 300, "../..", "a\nb", "%s", "\x1b[31m", "[red]x[/red]", "[/x]")
OF_WORDS = (
    ("{}",),
    ("erase", "{}", "--config", "@/good"),
    ("keys", "create", "{}", "--config", "@/good"),
    ("keys", "create", "t", "--tier", "{}", "--config", "@/good"),
    ("keys", "list", "--application", "{}", "--config", "@/good"),
    ("keys", "revoke", "{}", "--config", "@/good"),
    ("keys", "token", "{}", "--config", "@/good"),
    ("simulate", "@/good", "--scenario", "{}"),
    ("simulate", "@/good", "--trace", "{}"),
    ("generate", "x", "-o", "{}", "--base-url", NOWHERE),
    ("generate", "{}", "--base-url", NOWHERE),
    ("models", "{}"),
    ("models", "add", "@/model", "--dry-run", "--to", "@/good", "--name={}"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Good and bad files; the working directory while these tests run."""
    made, before = tmp_path_factory.mktemp("hostile"), Path.cwd()
    good = Path("configs/paced.yaml").read_text()
    good = good.replace("var/paced/ledger.db", f"{made}/ledger.db")
    good = good.replace("var/paced/blobs", f"{made}/blobs")
    (made / "good").write_text(good)
    (made / "folder").mkdir()
    (made / "binary").write_bytes(bytes(range(256)))
    (made / "empty").write_text("")
    (made / "list").write_text("[1, 2]")
    (made / "deep").write_text("a: " + "[" * 500)
    (made / "text").write_text("x" * 5000)
    dsns = (
        *("sqlite:////proc/no/l.db", f"sqlite:///{made}/folder", f"sqlite:///{made}/text"),
        f"postgresql://u:ses/ame+{SECRET}==@127.0.0.1:1/d",
        *(f"postgresql://u:{SECRET}@h:1x/d", f"postgresql://u@127.0.0.1:1/d?odd={SECRET}"),
        *(f"postgresql://u:{SECRET}@[::1/d", f'"sqlite:///{made}/\\0l.db"'),
    )
    pipeline_folder(made / "model", "FluxPipeline", FLUX)
    for name, dsn in zip(LEDGERS, dsns, strict=True):
        (made / f"ledger-{name}").write_text(good.replace(f"sqlite:///{made}/ledger.db", dsn))
    os.chdir(made)
    yield made
    os.chdir(before)


def cases() -> list[tuple[str, ...]]:
    files = [
        *((commands, value) for commands in OF_FILES + OF_CONFIGS + OF_MODELS for value in BROKEN),
        *((commands, f"@/ledger-{name}") for commands in OF_FILES[3:] for name in LEDGERS),
        *((commands, value) for commands in OF_URLS for value in URLS),
        *((commands, value) for commands in OF_KEYS for value in KEYS),
        *((commands, value) for commands in OF_NUMBERS for value in NUMBERS),
        *((commands, value) for commands in OF_WORDS for value in WORDS),
    ]
    return [tuple(part.replace("{}", value) for part in command) for command, value in files]


def test_every_command_takes_what_it_is_given(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one test, because each of the hundreds takes a millisecond."""
    monkeypatch.setattr(sys, "stdin", None)
    wrong = []
    for case in cases():
        arguments = [f"{folder}/{part[2:]}" if part.startswith("@/") else part for part in case]
        try:
            code: object = main(arguments)
        except SystemExit as left:
            code = left.code
        except Exception as error:  # noqa: BLE001 - a traceback is what must not be
            code = f"{type(error).__name__}: {error}"
        told = "".join(capsys.readouterr())
        if code not in (0, 1, 2, 3, 4) or SECRET in told or "Traceback" in told:
            wrong.append((case, code, told[-300:]))
    assert wrong == []


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_no_header_carries_is_named_and_not_printed(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["status", "--key", key])
    assert refused.value.code == 2
    told = capsys.readouterr().err
    assert "--key" in told
    assert not {SECRET, "ключ", "sk-local"} & set(re.split(r"[\s'\"]", told))


class OtherServer(BaseHTTPRequestHandler):
    """A server that is another program's."""

    answer = b"{}"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"<html>", b'{"data": 1}', b"\xff"])
def test_another_server_is_not_taken_for_ours(
    answer: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    OtherServer.answer = answer
    with HTTPServer(("127.0.0.1", 0), OtherServer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = ("--base-url", f"http://127.0.0.1:{server.server_port}")
        assert main(["status", *url]) == 1
        assert main(["generate", "x", "-o", f"{tmp_path}/x.png", *url]) == 1
        server.shutdown()
    assert capsys.readouterr().err.replace("\n", " ").count("is not Meltproof") == 2


def meltproof(*arguments: str | bytes, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "serve_app", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, **streams)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("port", ["-1", "70000", "9" * 30, "x", "", "1.5", "٣"])
def test_a_port_that_is_none_is_refused(
    port: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["run", f"{folder}/good", f"--dashboard-port={port}"])
    assert refused.value.code == 2
    assert "--dashboard-port: must be a port" in capsys.readouterr().err


def test_arguments_that_are_not_text_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["generate", os.fsdecode(b"f\xfcchsin")])
    assert refused.value.code == 2
    assert "argument 2 is not text in UTF-8" in capsys.readouterr().err


def test_a_reader_that_has_read_enough_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with meltproof("--help", stdout=writing) as child:
        os.close(writing)
        _, told = child.communicate(timeout=60)
    assert b"Traceback" not in told
    reading, writing = os.pipe()
    os.close(reading)
    week = ("--images-per-week", "7e8", "--peak-factor", "3")
    arguments = ("plan", *week, "--model", "meltproof-emoji", "--gpu", "h200", "--p95-wait", "9")
    with meltproof(*arguments, stdout=writing) as child:
        os.close(writing)
        _, told = child.communicate(timeout=60)
    assert b"Traceback" not in told
    assert b"Exception ignored" not in told


def hears_sigint() -> None:
    """In the child: shells start background jobs, these tests perhaps, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_no_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "never-written"
    os.mkfifo(fifo)
    with meltproof("check", str(fifo), preexec_fn=hears_sigint) as child:
        writer = os.open(fifo, os.O_WRONLY)  # returns once the command has opened it
        child.send_signal(signal.SIGINT)
        try:
            _, told = child.communicate(timeout=60)
        finally:
            os.close(writer)  # ends it in any case
    assert child.returncode == 130
    assert b"Traceback" not in told
