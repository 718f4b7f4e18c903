"""`meltproof apply` says that it runs only when it runs, also when there is nothing to change."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from serve_app.__main__ import main
from serve_app.operate.checking import check_file

FILE = "configs/laptop.yaml"


class Dashboard(HTTPServer):
    """Of a cluster that was told FILE before. states: of its application, one for each question, of
    which the last one stays; `then` once it is told again, which `puts` counts."""

    states: list[str]
    then: list[str]
    puts = 0

    def state(self) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


class Answers(BaseHTTPRequestHandler):
    server: Dashboard

    def do_GET(self) -> None:
        if "nodes" in self.path:
            self._say({"data": {"result": {"result": []}}})
            return
        config, _ = check_file(FILE)
        self._say(
            {
                "proxy_location": config.get("proxy_location", "HeadOnly"),
                "http_options": config.get("http_options"),
                "applications": {
                    app["name"]: {
                        "name": app["name"],
                        "deployed_app_config": app,
                        "source": "declarative",
                        "status": self.server.state(),
                        "message": "the ledger did not answer",
                        "deployments": {},
                    }
                    for app in config["applications"]
                },
            }
        )

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.puts += 1
        self.server.states = self.server.then
        self._say({})

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _say(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    server = Dashboard(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def apply(dashboard: Dashboard, *states: str, then: tuple[str, ...] = ()) -> int:
    dashboard.states, dashboard.then = list(states), list(then)
    return main(["apply", FILE, "--address", f"http://127.0.0.1:{dashboard.server_port}", "--yes"])


def test_a_file_that_runs_is_not_put_again(dashboard: Dashboard) -> None:
    assert apply(dashboard, "RUNNING") == 0
    assert dashboard.puts == 0


def test_what_is_starting_is_waited_for(
    dashboard: Dashboard, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(dashboard, "DEPLOYING", "DEPLOYING", "DEPLOY_FAILED") == 1
    assert "the ledger did not answer" in capsys.readouterr().err
    assert dashboard.puts == 0


def test_what_failed_before_is_tried_again(
    dashboard: Dashboard, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(dashboard, "DEPLOY_FAILED", then=("DEPLOYING", "RUNNING")) == 0
    assert "tries again to start application" in capsys.readouterr().out
    assert dashboard.puts == 1
    assert apply(dashboard, "DEPLOY_FAILED", then=("DEPLOYING", "DEPLOY_FAILED")) == 1
