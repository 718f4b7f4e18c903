"""k8s/rayservice.yaml: made from configs/cluster.yaml, strictly a RayService, without secrets."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.rayservice.__main__ import CONFIG, MANIFEST, POLICIES, generated, load_schema, problems
from serve_app.__main__ import main
from serve_app.access.connections import use_for_every_server
from serve_app.config.serve_file import parse_serve_config

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    import deployments.serve_schema  # noqa: F401

SCHEMA = load_schema()
RAYSERVICE: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(MANIFEST.read_text())))
CLUSTER: dict[str, Any] = RAYSERVICE["spec"]["rayClusterConfig"]
PODS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
CONTAINERS = [container for pod in PODS for container in pod["template"]["spec"]["containers"]]


def test_it_is_made_from_the_cluster_file() -> None:
    assert generated(MANIFEST.read_text(), CONFIG.read_text()) == MANIFEST.read_text()
    assert yaml.safe_load(RAYSERVICE["spec"]["serveConfigV2"]) == yaml.safe_load(CONFIG.read_text())


def test_it_is_strictly_a_rayservice() -> None:
    assert problems(RAYSERVICE, SCHEMA) == []


WRONG: list[tuple[Callable[[dict[str, Any]], object], str]] = [
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
]


@pytest.mark.parametrize(("spoil", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_the_crd_does_not_know_is_refused(
    spoil: Callable[[dict[str, Any]], object], said: str
) -> None:
    manifest = copy.deepcopy(RAYSERVICE)
    spoil(manifest["spec"])
    assert said in " ".join(problems(manifest, SCHEMA))


def test_a_crd_of_yaml_serves_as_well(tmp_path: Path) -> None:
    version = {"name": "v1", "schema": {"openAPIV3Schema": {**SCHEMA, "description": "long"}}}
    file = tmp_path / "crd.yaml"
    file.write_text(yaml.safe_dump({"spec": {"versions": [version]}}))
    assert load_schema(file) == SCHEMA


def test_nobody_is_root_and_secrets_are_references() -> None:
    for pod in PODS:
        spec = pod["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["restartPolicy"] == "Never"  # what autoscaler v2 wants
    for container in CONTAINERS:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert {"livenessProbe", "readinessProbe"} <= container.keys()
        env = {entry["name"]: entry for entry in container["env"]}
        assert env["RAY_SERVE_ENABLE_HA_PROXY"]["value"] == "1"
        assert env["RAY_SERVE_THROUGHPUT_OPTIMIZED"]["value"] == "1"
        assert env["FORWARDED_ALLOW_IPS"]["value"] == ""
        callback = env["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]["value"]
        assert callback == f"{use_for_every_server.__module__}:{use_for_every_server.__name__}"
        assert "secretKeyRef" in env.get("PGPASSWORD", {"valueFrom": "secretKeyRef"})["valueFrom"]
    assert ["PGPASSWORD" in str(container) for container in CONTAINERS] == [True, True, False]
    assert "secretKeyRef" in str(CLUSTER["gcsFaultToleranceOptions"]["redisPassword"])


def test_ray_asks_for_the_token_of_a_secret() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token", "secretName": "meltproof-ray"}
    assert "meltproof-ray" in (MANIFEST.parents[1] / "docs/kubernetes.md").read_text()
    ports = [port["containerPort"] for port in CONTAINERS[0]["ports"]]
    assert 10_001 not in ports, "the head's Service would offer it"


NETWORK: list[dict[str, Any]] = list(yaml.safe_load_all(POLICIES.read_text()))


def test_the_network_policies_are_strictly_that() -> None:
    assert [problems(policy, SCHEMA) for policy in NETWORK] == [[]] * len(NETWORK)
    for spoil in (
        lambda policy: policy["spec"].update(ingres=[]),
        lambda policy: policy["spec"].pop("podSelector"),
        lambda policy: policy["spec"]["ingress"][0].update(form=[]),
        lambda policy: policy["spec"].update(policyTypes=["ingress"]),
        lambda policy: policy.update(apiVersion="networking.k8s.io/v1beta1"),
    ):
        policy = copy.deepcopy(NETWORK[0])
        spoil(policy)
        assert problems(policy, SCHEMA)


OURS = {
    pod: (None, template["template"]["metadata"]["labels"])
    for pod, template in zip(("head", "cpu", "gpu"), PODS, strict=True)
}
OTHERS: dict[str, tuple[str | None, dict[str, str]]] = {
    "another pod": (None, {"app": "other"}),
    "operator": ("kuberay-system-EXAMPLE", {"app.kubernetes.io/name": "kuberay-operator"}),
    "beside the operator": ("kuberay-system-EXAMPLE", {"app": "other"}),
    "load balancer": ("ingress-EXAMPLE", {}),
    "Prometheus": ("monitoring-EXAMPLE", {}),
    "database": ("databases", {}),
    "DNS": ("kube-system", {}),
}
"""Namespace (None: that of the service) and labels."""
ALL = OURS | OTHERS
RAYS_PORTS = (6379, 8265, 10_001, 52_365, 8076, 10_100)


def connects(source: str, target: str, port: int) -> bool:
    """What Kubernetes promises of its policies, of which each allows and none forbids."""
    ways = (
        ("Ingress", "ingress", "from", target, source),
        ("Egress", "egress", "to", source, target),
    )
    for kind, rules, peers, chosen, other in ways:
        selecting = [
            policy["spec"]
            for policy in NETWORK
            if kind in policy["spec"]["policyTypes"]
            and ALL[chosen][0] is None
            and policy["spec"]["podSelector"]["matchLabels"].items() <= ALL[chosen][1].items()
        ]
        if selecting and not any(
            (not rule.get("ports") or port in [each["port"] for each in rule["ports"]])
            and any(matches(peer, *ALL[other]) for peer in rule[peers])
            for spec in selecting
            for rule in spec[rules]
        ):
            return False
    return True


def matches(peer: dict[str, Any], namespace: str | None, labels: dict[str, str]) -> bool:
    assert peer.keys() <= {"podSelector", "namespaceSelector"}
    space = peer.get("namespaceSelector", {}).get("matchLabels", {})
    wanted = space.get("kubernetes.io/metadata.name")
    chosen = peer.get("podSelector", {"matchLabels": {}})["matchLabels"]
    return wanted == namespace and chosen.items() <= labels.items()


def test_rays_ports_are_closed_to_other_pods() -> None:
    for port in RAYS_PORTS:
        for ours in OURS:
            assert all(connects(each, ours, port) for each in OURS)
            may = {each for each in OTHERS if connects(each, ours, port)}
            assert may == ({"operator"} if port == 8265 else set()), (port, ours)


def test_clients_and_metrics_get_through() -> None:
    for ours in OURS:
        assert {each for each in OTHERS if connects(each, ours, 8000)} == {
            "operator",
            "load balancer",
        }
        assert {each for each in OTHERS if connects(each, ours, 8080)} == {"Prometheus"}


def test_decoders_reach_no_database() -> None:
    assert [ours for ours in OURS if connects(ours, "database", 5432)] == ["head", "cpu"]
    assert {each for each in OTHERS if connects("gpu", each, 53)} == {"DNS"}
    assert not any(connects("gpu", each, 443) for each in OTHERS)


def test_the_groups_are_what_the_serve_config_asks_for() -> None:
    config = yaml.safe_load(RAYSERVICE["spec"]["serveConfigV2"])
    [application] = parse_serve_config(config, "serveConfigV2").applications
    options = {deployment.name: deployment for deployment in application.deployments}
    cpu, gpu = CLUSTER["workerGroupSpecs"]
    for name in ("Gateway", "Dispatcher"):
        assert options[name].ray_actor_options["label_selector"] == cpu["labels"]
    scaling = options["Decoder"].autoscaling_config
    assert scaling is not None
    limits = gpu["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == application.args.decoder.num_gpus == 1
    assert (gpu["minReplicas"], gpu["maxReplicas"]) == (scaling.min_replicas, scaling.max_replicas)
    grace = gpu["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > application.args.decoder.grace_seconds + 10  # the preStop's pause comes first


def test_apply_on_kuberay_prints_the_patch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edited.yaml"
    file.write_text(CONFIG.read_text().replace("images_per_day: 3,", "images_per_day: 5,"))
    assert main(["apply", str(file), "--kuberay", "meltproof"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    patch = json.loads(told.out)
    assert patch.keys() == {"spec"}
    merged = {**RAYSERVICE, "spec": {**RAYSERVICE["spec"], **patch["spec"]}}
    assert problems(merged, SCHEMA) == []
    file.write_text(CONFIG.read_text().replace("meltproof@ledger", "meltproof:sesame@ledger"))
    assert main(["apply", str(file), "--kuberay", "meltproof"]) == 0
    assert "ledger.dsn is a secret" in capsys.readouterr().err
