"""How a local cluster starts: its environment, its ports, and what it says when it does not."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from serve_app.operate import local_cluster
from serve_app.operate.head_environment import PORT_VARIABLES, head_environment, sockets_fit
from serve_app.operate.local_cluster import LocalCluster, free_ports, new_temp_dir
from serve_app.operate.serve_api import ClusterFailed, NoCluster, ServeApi, ray_token, reason
from serve_app.operate.start_failure import cause, refusal, report

CONFIG: dict[str, Any] = {"http_options": {"host": "127.0.0.1", "port": 1}, "applications": []}


def test_the_head_decides_its_own_authentication_and_belongs_to_no_other_cluster() -> None:
    given = {
        "HOME": "/home/u",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "sesame",
        "RAY_AUTH_TOKEN_PATH": "/home/u/other",
        "RAY_TMPDIR": "/somewhere",
        "HTTP_PROXY": "http://proxy:3128",
    }
    ports = range(20_000, 20_000 + len(PORT_VARIABLES))
    made = head_environment(given, ports, "/tmp", logical_nodes=False)
    assert made["RAY_AUTH_MODE"] == "disabled"
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"} & made.keys()
    assert (made["HOME"], made["HTTP_PROXY"]) == ("/home/u", "http://proxy:3128")
    assert "127.0.0.1" in made["no_proxy"]
    assert made["DASHBOARD_METRIC_PORT"] == "20001"


def test_ports_are_different_and_free() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50


def test_sockets_have_room_below_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sockets_fit("/tmp")
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    assert not sockets_fit(str(deep))
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    made = new_temp_dir()
    made.rmdir()
    assert made.parent == Path("/tmp")


def test_a_temporary_folder_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such")
    with pytest.raises(ClusterFailed, match="TMPDIR"):
        LocalCluster(CONFIG, {})


def test_a_head_that_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_cluster, "START_SECONDS", 10_000.0)
    cluster = LocalCluster(CONFIG, {**os.environ, "RAY_START_HOOK": "no_such.hook"}, 0)
    with pytest.raises(ClusterFailed, match=r"Ray did not start(.|\n)*no_such"):
        cluster.start()
    shutil.rmtree(cluster.temp_dir)


HOOK = """
from pathlib import Path

def start(*_):
    first = Path(__file__).with_name("first")
    if first.exists():
        raise SystemExit("the second start")
    first.touch()
    raise SystemExit("The current node timed out during startup.")
"""


def test_a_head_that_gave_up_waiting_for_its_own_processes_is_started_again(tmp_path: Path) -> None:
    (tmp_path / "slow_machine.py").write_text(HOOK)
    slow = {"PYTHONPATH": str(tmp_path), "RAY_START_HOOK": "slow_machine.start"}
    cluster = LocalCluster(CONFIG, {**os.environ, **slow}, 0)
    with pytest.raises(ClusterFailed, match=r"Ray did not start(.|\n)*the second start"):
        cluster.start()
    shutil.rmtree(cluster.temp_dir)


def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        port = other.server_port
        options = {"http_options": {"host": "127.0.0.1", "port": port}}
        cluster = LocalCluster({**CONFIG, **options}, {}, 0)
        with pytest.raises(ClusterFailed, match=rf"port {port} .* in use .*http_options\.port"):
            cluster.start()
    shutil.rmtree(cluster.temp_dir)


LOGS = {
    "dashboard.log": "OSError: [Errno 28] No space left on device",
    "raylet.err": "check failed: Address already in use",
    "gcs_server.err": "terminate called after throwing std::bad_alloc",
}


@pytest.mark.parametrize(
    ("died", "said"),
    [
        ("dashboard [exit code=1]", "a disk is full"),
        ("raylet [exit code=-6]", "a port was taken"),
        ("gcs_server [exit code=-6]", "memory ran out"),
        ("log_monitor [exit code=-9]", "memory ran out"),
    ],
)
def test_the_log_of_what_died_is_shown_with_its_cause(died: str, said: str, tmp_path: Path) -> None:
    logs = tmp_path / "session_latest" / "logs"
    logs.mkdir(parents=True)
    for name, text in LOGS.items():
        (logs / name).write_text(f"an earlier line\n{text}\n")
    (tmp_path / "head.log").write_text(
        f"Ray started.\n\x1b[31mSome Ray subprocesses exited unexpectedly:\x1b[0m\n  {died}\n"
    )
    told = report("Ray did not start", tmp_path)
    assert said in told.splitlines()[0]
    name = died.split()[0]
    assert f"({name} ended)" in told
    shown = [text for log, text in LOGS.items() if log.startswith(name)]
    assert all(text in told for text in shown or [died])


def test_a_cause_that_is_not_known_is_not_invented(tmp_path: Path) -> None:
    assert cause("something else") is None
    (tmp_path / "head.log").write_text("something else\n")
    assert report("Ray did not start", tmp_path).startswith("Ray did not start\n")
    assert report("Ray did not start", tmp_path / "none").startswith("Ray did not start")


def test_a_dashboard_that_wants_a_token_is_another_clusters() -> None:
    assert "another Ray cluster" in str(refusal("http://127.0.0.1:8265", 401))
    assert refusal("http://127.0.0.1:8265", 503) is None


@contextmanager
def dashboard(token: str) -> Iterator[str]:
    """One that asks for a token."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers["Authorization"]
            self.send_response(200 if given == f"Bearer {token}" else 403 if given else 401)
            self.end_headers()
            self.wfile.write(b'{"applications": {}}')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_cluster_that_asks_for_a_token_gets_it() -> None:
    with dashboard("sesame") as address:
        assert ServeApi(address, "sesame").status() == {"applications": {}}
        with pytest.raises(ClusterFailed, match=r"asks for a token: .*RAY_AUTH_TOKEN"):
            ServeApi(address).status()
        with pytest.raises(ClusterFailed, match="refuses the token") as refused:
            ServeApi(address, "other-sesame").status()
    assert "other-sesame" not in str(refused.value)
    assert "sesame" not in repr(ServeApi(address, "sesame"))
    with pytest.raises(NoCluster, match=r"answers at http://127\.0\.0\.1:1 ") as away:
        ServeApi("http://u:sesame@127.0.0.1:1").status()
    assert "sesame" not in str(away.value)


def test_a_config_that_cannot_be_used_is_one_line() -> None:
    trace = "Deploying failed:\nTraceback (most recent call last):\n  File x\n"
    ours = f"{trace}serve_app.config.errors.ConfigError: ledger.dsn: unable to open database file\n"
    assert reason(ours) == "ledger.dsn: unable to open database file"
    assert reason(f"{trace}OSError: no\n") == f"{trace}OSError: no\n"


def test_the_token_is_looked_for_where_ray_looks(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("of-home\n")
    (tmp_path / "file").write_text("of-file")
    home = {"HOME": str(tmp_path)}
    assert ray_token(home) == "of-home"
    assert ray_token({**home, "RAY_AUTH_TOKEN_PATH": f"{tmp_path}/file"}) == "of-file"
    assert ray_token({**home, "RAY_AUTH_TOKEN": "given"}) == "given"
    assert ray_token({**home, "RAY_AUTH_MODE": "disabled"}) is None
    assert ray_token({}) is None
    assert ray_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path)}) is None
