"""A secret of a config file is printed by no command and logged by none, wherever it stands."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from jobs.db.dsn import secrets_of
from serve_app.__main__ import main
from serve_app.config.secret_fields import Secret
from serve_app.config.serve_file import ServeFile, parse_serve_config
from serve_app.operate.config_diff import inline_secrets

CANARY = "canary"
LONG = f"{CANARY}-of-more-than-thirty-two-bytes"
KEYS = [{"key": f"sk-{CANARY}", "tenant": "t"}]
SIGNING = [{"id": "a", "secret": LONG}]


def planted() -> dict[str, Any]:
    """A config file with a secret in every field that can hold one, and in what is Ray's."""
    document: dict[str, Any] = yaml.safe_load(Path("configs/paced.yaml").read_text())
    document["http_options"]["ssl_keyfile_password"] = CANARY
    [application] = document["applications"]
    application["runtime_env"] = {"env_vars": {"ANYTHING": CANARY}}
    application["args"] |= {"keys": KEYS, "signing": SIGNING}
    application["args"]["ledger"] = {
        "dsn": f"postgresql://u:{CANARY}/q9+Yt==@127.0.0.1:1/d?sslpassword={CANARY}"
    }
    application["args"]["model"]["options"] = {"hub_token": CANARY}
    application["deployments"] = [
        {"name": name, "user_config": {"keys": KEYS, "signing": SIGNING}}
        for name in ("Gateway", "Dispatcher")
    ]
    application["deployments"][0]["ray_actor_options"] = {
        "runtime_env": {"env_vars": {"X": CANARY}, "working_dir": f"https://u:{CANARY}@h/x.zip"}
    }
    return document


def marked(section: type[BaseModel]) -> set[str]:
    """The names of the fields below a section whose type says that they hold secrets."""
    found = set()
    for name, field in section.model_fields.items():
        if any(isinstance(one, Secret) for one in field.metadata):
            found.add(name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= marked(kind)
    return found


def paths_of(document: object, path: str = "") -> Iterator[str]:
    """Of everything that holds the canary."""
    if isinstance(document, dict | list):
        entries = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in entries:
            yield from paths_of(value, f"{path}.{key}" if path else str(key))
    elif CANARY in str(document):
        yield path


def test_every_secret_is_known_by_its_type() -> None:
    document = planted()
    paths = list(paths_of(document))
    assert marked(ServeFile) <= {path.rpartition(".")[2] for path in paths}, "plant these, too"
    assert sorted(inline_secrets(document)) == sorted(paths)


def test_check_names_secrets_that_stand_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    document: dict[str, Any] = yaml.safe_load(Path("configs/paced.yaml").read_text())

    def said(host: str) -> list[str]:
        document["http_options"]["host"] = host
        file.write_text(yaml.safe_dump(document))
        assert main(["check", str(file)]) == 0
        out = capsys.readouterr().out
        assert CANARY not in out
        return [line.split(":")[0].strip() for line in out.splitlines() if "is a secret" in line]

    assert said("127.0.0.1") == [], "a laptop's keys"
    args = document["applications"][0]["args"]
    args["signing"] = SIGNING
    document["applications"][0]["deployments"] = [
        {"name": "Gateway", "user_config": {"keys": KEYS}}
    ]
    live = "applications.0.deployments.0.user_config.keys.0.key"
    assert said("127.0.0.1") == ["applications.0.args.signing.0.secret"]
    assert said("0.0.0.0") == [
        "applications.0.args.keys.0.key", "applications.0.args.signing.0.secret", live
    ]  # fmt: skip
    args["signing"] = [{"id": "a", "file": "/run/secrets/signing"}]
    args["keys"] = [{"file": "/run/secrets/key", "tenant": "local"}]
    args["ledger"] = {"dsn": "postgresql://u@h/d?passfile=/run/secrets/pgpass"}
    del document["applications"][0]["deployments"]
    assert said("0.0.0.0") == []


def test_check_names_what_ray_would_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = planted()
    file = tmp_path / "config.yaml"
    for host, told in (("127.0.0.1", 0), ("0.0.0.0", 4)):
        document["http_options"]["host"] = host
        file.write_text(yaml.safe_dump(document))
        assert main(("check", str(file))) == 0
        assert capsys.readouterr().out.count("Ray Serve writes args into its log") == told
    assert main(("check", "configs/cluster.yaml")) == 0
    assert "is a secret" not in capsys.readouterr().out


@contextmanager
def ray(running: dict[str, Any]) -> Iterator[str]:
    """The dashboard of a cluster that runs this and refuses everything by repeating it."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            apps = {
                app["name"]: {"deployed_app_config": app, "status": "RUNNING"}
                for app in running["applications"]
            }
            status = {**running, "applications": apps}
            self._say(200, json.dumps({**status, "data": {"result": {"result": []}}}))

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._say(400, f"input_value={body} {json.loads(body)}")

        def _say(self, code: int, text: str) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def older(document: dict[str, Any]) -> dict[str, Any]:
    """What another version may have deployed, with other secrets in fields that this one lacks."""
    changed: dict[str, Any] = json.loads(json.dumps(document).replace(CANARY, f"old-{CANARY}"))
    args = changed["applications"][0]["args"]
    args["ledger"]["shards"] = [{"dsn": f"postgresql://u:{CANARY}@h/d"}]
    args["keys"] = {"sk-old": {"hash": CANARY}}
    args["signing"] = CANARY
    changed["applications"][0]["deployments"][0]["user_config"] = None
    changed["http_options"]["ssl_keyfile_password"] = None
    return changed


def test_no_command_prints_or_logs_one(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("RAY_START_HOOK", "no_such.hook")
    document = planted()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    told = []
    with ray(older(document)) as address:
        for arguments in (
            ("check", str(file)),
            ("diff", str(file), "--address", address),
            ("apply", str(file), "--address", address, "--yes"),
            ("keys", "list", "--config", str(file)),
            ("keys", "create", "t", "--config", str(file)),
            ("keys", "token", "t", "--config", str(file)),
            ("limits", str(file)),
            ("erase", "t", "--config", str(file)),
            ("simulate", str(file), "--scenario", "none"),
            ("run", "--dashboard-port", "0", str(file)),
        ):
            with suppress(SystemExit):
                main(arguments)
            told.append((arguments[0], *capsys.readouterr()))
    main(("apply", str(file), "--kuberay", "meltproof"))
    told.append(("--kuberay", capsys.readouterr().err))  # its stdout is the file itself
    assert [each for each in told if CANARY in str(each)] == []
    assert CANARY not in caplog.text
    said = {name: "".join(words) for name, *words in told}
    assert "another secret" in said["diff"]
    assert "input_value" in said["apply"]
    assert "ledger.dsn is a secret" in said["--kuberay"]
    assert "did not start" in said["run"]


WRONG: list[tuple[str, Any]] = [
    ("ledger", {"dsnn": f"postgresql://u:{CANARY}@h/d"}),
    ("ledger", {"dsn": f"mysql://u:{CANARY}@h/d"}),
    ("ledger", {"dsn": [CANARY]}),
    ("ledger", CANARY),
    ("keys", [{"key": f"{CANARY} with blanks", "tenant": "t"}]),
    ("keys", [{"key": f"{CANARY}"}]),
    ("keys", [{"key": CANARY, "tenant": "t", "tier": "none"}]),
    ("keys", [*KEYS, *KEYS]),
    ("signing", [{"id": "a", "secret": CANARY}]),
    ("signing", [{"id": "a", "secret": LONG, "file": "x"}]),
    ("signing", CANARY),
]


@pytest.mark.parametrize(("section", "value"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_what_is_wrong_with_one_is_said_without_it(
    section: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(Path("configs/paced.yaml").read_text())
    document["applications"][0]["args"][section] = value
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(document))
    assert main(("check", str(file))) == 1
    told = "".join(capsys.readouterr())
    assert section in told
    assert CANARY not in told


def test_a_parsed_file_does_not_show_them_either() -> None:
    file = parse_serve_config(planted(), "x")
    shown = repr(file.http_options) + repr(file.applications[0].args)
    assert CANARY not in shown.replace(f"'hub_token': '{CANARY}'", "")


@pytest.mark.parametrize(
    ("dsn", "secret"),
    [
        ("sqlite:///var/ledger.db", False),
        ("postgresql://meltproof@ledger.example/meltproof?sslmode=require", False),
        ("postgresql://u:Zk3/q9+Yt==@db/m", True),
        ("postgresql://u:a@b@db/m", True),
        ("postgresql://u:p%2Fq@db/m", True),
        ("postgresql://db/m?password=x", True),
        ("postgresql://db/m?sslpassword=x", True),
        ("postgresql://u:p@[::1/m", True),
    ],
)
def test_database_urls_are_parsed(dsn: str, secret: bool) -> None:
    assert bool(secrets_of(dsn)) is secret
