"""compose.yaml: what the compose specification allows, closed to all but this machine, and in step
with the configs, the code and the Ray that it starts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.scripts.scripts import start

from deployments.metrics.settings import PORT
from scripts.rayservice.chart import manifests, rendered
from scripts.rayservice.schemas import compose_problems
from serve_app.operate.checking import check_file
from tests.stages.tools import programs

ROOT = Path(__file__).resolve().parents[2]
CPU: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
GPU: dict[str, Any] = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = CPU["services"]
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def defaults(text: str) -> str:
    """The text without variables in the environment."""
    return _DEFAULT.sub(r"\1", text)


@pytest.mark.parametrize("document", [CPU, GPU], ids=["cpu", "gpu"])
def test_they_are_compose_files(document: dict[str, Any]) -> None:
    assert compose_problems(document) == []


def test_a_misspelt_field_is_found() -> None:
    service = {**SERVICES["ledger"], "restrat": "always"}
    [problem] = compose_problems({**CPU, "services": {**SERVICES, "ledger": service}})
    assert problem.startswith("services.ledger: ")
    assert "restrat" in problem


def test_only_loopback_is_published() -> None:
    published = {
        name: [defaults(port) for port in service.get("ports", [])]
        for name, service in SERVICES.items()
    }
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    chosen = [
        port for service in SERVICES.values() for port in service.get("ports", []) if "${" in port
    ]
    assert chosen == ["${MELTPROOF_LISTEN:-127.0.0.1:8000}:8000"]
    outside = [name for name, service in SERVICES.items() if "outer" in service.get("networks", [])]
    assert set(outside) == {name for name, ports in published.items() if ports}
    assert CPU["networks"]["inner"] == {"internal": True}


def test_services_are_locked_down_and_name_what_is_there() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert set(service.get("depends_on", {})) <= SERVICES.keys()
        assert {*service.get("secrets", [])} <= CPU["secrets"].keys()
        for volume in service.get("volumes", []):
            source = defaults(volume).partition(":")[0]
            assert source in CPU["volumes"] or (ROOT / source).exists(), (name, source)
        assert "healthcheck" in service or service["restart"] == "no"
        for needed, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed]
    assert {*CPU["volumes"]} == {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith((".", "$"))
    }
    for name in ("meltproof", "deploy"):
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["user"] == "1000:1000"
    assert GPU["services"].keys() <= SERVICES.keys()


def test_secrets_are_files() -> None:
    assert all(secret.keys() == {"file"} for secret in CPU["secrets"].values())
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert "PASSWORD" not in name or name.endswith("_FILE"), value


def test_ray_knows_the_options() -> None:
    script = SERVICES["meltproof"]["command"][-1].replace("\\\n", " ")
    [line] = [line for line in script.splitlines() if line.startswith("exec ray start")]
    words = line.removeprefix("exec ray start").replace('"$$(cat', "x").split()
    options = [word for word in words if not word.startswith("/run")]
    assert start.make_context("start", options).params["head"] is True


def test_its_environment_is_that_of_the_chart() -> None:
    [service] = [one for one in manifests(rendered()) if one["kind"] == "RayService"]
    [_, cpu, _] = [
        group["template"]["spec"]["containers"][0]["env"]
        for group in (
            service["spec"]["rayClusterConfig"]["headGroupSpec"],
            *service["spec"]["rayClusterConfig"]["workerGroupSpecs"],
        )
    ]
    there = {one["name"]: one["value"] for one in cpu if "value" in one and one["name"] != "HOME"}
    assert there.items() <= SERVICES["meltproof"]["environment"].items()


def test_prometheus_asks_the_ports_that_answer() -> None:
    [promtool] = programs("promtool")
    path = ROOT / "configs/compose/prometheus.yml"
    checked = subprocess.run(
        [promtool, "check", "config", "--syntax-only", path], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    jobs = yaml.safe_load(path.read_text())["scrape_configs"]
    targets = [target for job in jobs for one in job["static_configs"] for target in one["targets"]]
    assert targets == [f"meltproof:{PORT}", "meltproof:8080"]
    assert "--metrics-export-port 8080" in SERVICES["meltproof"]["command"][-1]


@pytest.mark.parametrize("document", [CPU, GPU], ids=["cpu", "gpu"])
def test_its_config_is_one_that_meltproof_takes(document: dict[str, Any]) -> None:
    [volume] = document["services"]["deploy"]["volumes"]
    path = defaults(volume).partition(":")[0]
    config, file = check_file(str(ROOT / path))
    assert config["http_options"] == {"host": "0.0.0.0", "port": 8000}
    [application] = file.applications
    assert application.args.decoder.num_gpus == (1 if document is GPU else 0)
    [mount] = [each.partition(":")[2] for each in SERVICES["meltproof"]["volumes"]]
    assert (application.args.provenance.directory or "").startswith(mount)
    s3 = application.args.blobs.s3
    assert s3 is not None
    assert s3.endpoint == "http://seaweedfs:8333"
    assert f"create -name {s3.bucket}'" in SERVICES["bucket"]["command"][0]
    for name in (s3.access_key_id_file, s3.secret_access_key_file):
        assert Path(name or "").name in SERVICES["meltproof"]["secrets"]
    assert application.args.ledger.dsn.partition("@")[2].partition("/")[0] in SERVICES
