"""k8s/chart: what it renders is strictly what its kinds allow, what kustomize makes is the same,
and values that it does not know are refused by name."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import HelmError, lint

from scripts.rayservice.__main__ import everything_wrong, main
from scripts.rayservice.chart import (
    BASE,
    CHART,
    EXAMPLES,
    OVERLAYS,
    ROOT,
    Manifest,
    carried,
    generated,
    manifests,
    rendered,
    values_of,
)
from scripts.rayservice.patches import patch
from scripts.rayservice.rules import broken_rules
from scripts.rayservice.schemas import RAY_SERVICE, load_schema, problems
from serve_app.operate.checking import check_file
from tests.stages.tools import programs

KUBERNETES = "v1.34.0"
ROUTES: list[dict[str, Any]] = [
    {"route": {"kind": "gateway"}, "monitoring": {"podMonitor": True, "labels": {"team": "a"}}},
    {"monitoring": {"rules": True, "dashboards": True}},
    {"route": {"kind": "ingress"}},
    {"route": {"kind": "ingress", "ingress": {"className": "nginx", "tlsSecret": "images"}}},
    {"networkPolicies": False, "priorityClasses": False, "image": {"pullSecrets": ["registry"]}},
    {"secrets": {"provenance": "identity"}, "models": {"claim": "weights"}, "blobs": {"claim": ""}},
]
CASES = [{}, *(values_of(example) for example in EXAMPLES), *ROUTES]
IDS = ["default", *(example.stem for example in EXAMPLES), *map(str, range(len(ROUTES)))]


def one(found: list[Manifest], kind: str, name: str = "meltproof") -> Manifest:
    [manifest] = [
        each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return manifest


@pytest.mark.parametrize("values", CASES, ids=IDS)
def test_all_that_it_renders_is_strictly_its_kind(values: dict[str, Any]) -> None:
    found = manifests(rendered(values))
    assert [wrong for manifest in found for wrong in everything_wrong(manifest)] == []
    report = lint(CHART, values=values, strict=True, kube_version=KUBERNETES)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("values", CASES, ids=IDS)
def test_no_text_is_empty(values: dict[str, Any]) -> None:
    """API servers with defaults of "" read an empty text of a custom resource as null."""

    def empty(node: Any, path: str = "") -> list[str]:
        if isinstance(node, dict):
            return [each for key, value in node.items() for each in empty(value, f"{path}.{key}")]
        if isinstance(node, list):
            return [each for n, value in enumerate(node) for each in empty(value, f"{path}.{n}")]
        return [path] if node == "" else []

    found = [path for manifest in manifests(rendered(values)) for path in empty(manifest)]
    assert found == []


def test_kustomize_makes_the_same() -> None:
    [kubectl] = programs("kubectl")
    for folder, values in {
        BASE: {},
        **{OVERLAYS / example.stem: values_of(example) for example in EXAMPLES},
    }.items():
        made = subprocess.run(
            [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=True
        )
        assert manifests(made.stdout) == manifests(rendered(values)), folder


def test_what_is_generated_is_up_to_date() -> None:
    files = generated() | carried()
    folders = (BASE, OVERLAYS, CHART / "configs")
    there = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert there == files.keys()
    assert [path for path, text in files.items() if path.read_text() != text] == [], (
        "run python -m scripts.rayservice"
    )


LAPTOP = (ROOT / "configs/laptop.yaml").read_text()
UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 3}, "additional properties 'replicas' not allowed"),
    ({"workers": {"gpu": {"maxReplica": 1}}}, "'/workers/gpu': additional properties 'maxReplica'"),
    ({"workers": {"cpu": {"minReplicas": "2"}}}, "'/workers/cpu/minReplicas': got string, want"),
    ({"workers": {"cpu": {"gpus": 1}}}, "gpuResource"),
    ({"workers": {"GPU": {}}}, "GPU"),
    ({"head": {"cpu": 4}}, "'/head/cpu': got number, want string"),
    ({"route": {"kind": "route"}}, "'/route/kind': value must be one of"),
    ({"secrets": {"ray": ""}}, "'/secrets/ray'"),
    ({"redis": {"address": "redis"}}, "'/redis/address'"),
    ({"config": {"file": "nope"}}, "config.file: there is no configs/nope.yaml in the chart"),
    ({"config": {"text": LAPTOP}}, "config: http_options.host must be 0.0.0.0"),
    ({"config": {"text": "a: ["}}, "config: error converting YAML"),
    ({"workers": {"cpu": None}}, "Gateway of meltproof wants pool cpu, which is not among workers"),
]


@pytest.mark.parametrize(("values", "said"), UNKNOWN, ids=[said for _, said in UNKNOWN])
def test_a_wrong_value_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=r"(?s).") as refused:
        rendered(values)
    assert said in str(refused.value)


def test_a_port_that_nothing_else_names_is_refused() -> None:
    text = (ROOT / "configs/cluster.yaml").read_text().replace("port: 8000", "port: 9000")
    with pytest.raises(HelmError, match=r"http_options\.port must be 8000"):
        rendered({"config": {"text": text}})


def test_a_config_of_ones_own_takes_the_place_of_the_file() -> None:
    text = (ROOT / "configs/kubernetes/two-lanes.yaml").read_text()
    given = one(manifests(rendered({"config": {"text": text}})), "RayService")
    assert given["spec"]["serveConfigV2"] == text


def test_each_config_is_one_that_meltproof_takes() -> None:
    for example in EXAMPLES:
        file = values_of(example).get("config", {}).get("file", "cluster")
        check_file(str(ROOT / f"configs/{file}.yaml"))


def test_alerts_and_dashboards_are_those_of_the_repository() -> None:
    found = manifests(rendered({"monitoring": {"rules": True, "dashboards": True}}))
    folder = ROOT / "configs/monitoring"
    alerts = yaml.safe_load((folder / "alerts.yml").read_text())
    assert one(found, "PrometheusRule")["spec"] == alerts
    shown = [each["data"] for each in found if each["kind"] == "ConfigMap"]
    assert {name: json.loads(text) for data in shown for name, text in data.items()} == {
        path.name: json.loads(path.read_text()) for path in (folder / "dashboards").glob("*.json")
    }


def test_another_release_has_names_of_its_own() -> None:
    mine, theirs = manifests(rendered()), manifests(rendered(release="other"))
    names = [{(one["kind"], one["metadata"]["name"]) for one in each} for each in (mine, theirs)]
    assert not names[0] & names[1]
    assert "app: meltproof" not in rendered(release="other")


# What the check itself finds

WRONG: list[tuple[Callable[[Manifest], object], str]] = [
    (lambda spec: spec.update(serveConfigV3="x"), "'serveConfigV3' was unexpected"),
    (lambda spec: spec["rayClusterConfig"].pop("headGroupSpec"), "'headGroupSpec' is a required"),
    (lambda spec: spec["rayClusterConfig"].update(rayVersion=2.6), "is not of type 'string'"),
    (
        lambda spec: spec["rayClusterConfig"]["autoscalerOptions"].update(version="v3"),
        "is not one of ['v1', 'v2']",
    ),
    (
        lambda spec: spec["rayClusterConfig"]["workerGroupSpecs"][0].update(maxReplica=1),
        "'maxReplica' was unexpected",
    ),
    (
        lambda spec: spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][
            0
        ].update(securityContex={}),
        "'securityContex' was unexpected",
    ),
    (
        lambda spec: spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0][
            "resources"
        ]["limits"].update(cpu=[1]),
        "is not of type 'integer', 'string'",
    ),
    (lambda spec: spec.update(managedBy="me"), "the managedBy field value must be either"),
]


@pytest.mark.parametrize(("spoil", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_the_crd_does_not_allow_is_refused(
    spoil: Callable[[Manifest], object], said: str
) -> None:
    manifest = copy.deepcopy(one(manifests(rendered()), "RayService"))
    spoil(manifest["spec"])
    assert said in " ".join(everything_wrong(manifest))


def test_what_may_not_change_is_compared_with_what_was() -> None:
    schema = load_schema()
    before = one(manifests(rendered()), "RayService")
    before["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["backend"] = "redis"
    after = copy.deepcopy(before)
    assert broken_rules(after, schema, before) == []
    after["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["backend"] = "rocksdb"
    [said] = broken_rules(after, schema, before)
    assert said.startswith("spec.rayClusterConfig.gcsFaultToleranceOptions.backend: ")
    assert broken_rules(after, schema) == []


def test_rules_of_routes_count() -> None:
    route = one(manifests(rendered(ROUTES[0])), "HTTPRoute")
    assert everything_wrong(route) == []
    [rule] = route["spec"]["rules"]
    rule["backendRefs"][0].pop("port")
    assert "Must have port for Service reference" in " ".join(everything_wrong(route))
    rule["backendRefs"][0]["port"] = 8000
    rule["filters"] *= 2
    assert "cannot be repeated" in " ".join(everything_wrong(route))


def test_kinds_of_kubernetes_are_checked_strictly() -> None:
    budget = one(manifests(rendered()), "PodDisruptionBudget", "meltproof-cpu")
    assert problems(budget) == []
    assert "maxUnavailabel" in " ".join(
        problems({**budget, "spec": {**budget["spec"], "maxUnavailabel": 1}})
    )
    assert problems({**budget, "apiVersion": "policy/v9"}) == [
        "kind: there is no PodDisruptionBudget of policy/v9 in Kubernetes 1.34"
    ]
    assert problems("text") == ["apiVersion, kind: are missing"]


def test_a_crd_of_yaml_serves_as_well(tmp_path: Path) -> None:
    version = {
        "name": "v1",
        "schema": {"openAPIV3Schema": {**load_schema(RAY_SERVICE), "description": "long"}},
    }
    file = tmp_path / "crd.yaml"
    file.write_text(yaml.safe_dump({"spec": {"versions": [version]}}))
    assert load_schema(file) == load_schema(RAY_SERVICE)


def test_the_command_checks_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(rendered())
    monkeypatch.setattr("sys.argv", ["rayservice", "--check", str(file)])
    assert main() == 0
    assert capsys.readouterr().out == f"{file}: ok\n"
    file.write_text(rendered().replace("minAvailable: 1", "minAvailabel: 1"))
    assert main() == 1
    assert "PodDisruptionBudget meltproof-cpu: " in capsys.readouterr().out


# Patches


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a/b": 1, "c": 2}, {"a/b": 2}, [("replace", "/a~1b", 2), ("remove", "/c", None)]),
        (
            [{"name": "a"}, {"name": "b", "x": 1}, {"name": "c"}],
            [{"name": "b", "x": 2}, {"name": "d"}],
            [
                ("remove", "/2", None),
                ("remove", "/0", None),
                ("replace", "/0/x", 2),
                ("add", "/1", {"name": "d"}),
            ],
        ),
        (
            {"l": [{"name": "a"}, {"name": "b"}]},
            {"l": [{"name": "b"}, {"name": "a"}]},
            [("replace", "/l", [{"name": "b"}, {"name": "a"}])],
        ),
        ({"l": [1, 2]}, {"l": [1]}, [("replace", "/l", [1])]),
    ],
)
def test_patches(old: Any, new: Any, wanted: list[tuple[str, str, Any]]) -> None:
    made = [(one["op"], one["path"], one.get("value")) for one in patch(old, new)]
    assert made == wanted
