"""The RayService of the chart: what pods may, what they know, and that it goes with its config."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from uvicorn.middleware.proxy_headers import _TrustedHosts

from deployments.metrics.settings import PORT
from scripts.chaos_cluster.ray_nodes import DETECTION
from scripts.rayservice.__main__ import everything_wrong
from scripts.rayservice.chart import EXAMPLES, ROOT, manifests, rendered, values_of
from serve_app.__main__ import main
from serve_app.config.serve_file import parse_serve_config
from serve_app.operate.commands import drain

CONFIG = ROOT / "configs/cluster.yaml"
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    **{example.stem: values_of(example) for example in EXAMPLES},
}


def ray_service(values: dict[str, Any]) -> dict[str, Any]:
    [found] = [one for one in manifests(rendered(values)) if one["kind"] == "RayService"]
    return found


DEFAULT = ray_service({})
CLUSTERS = {name: ray_service(values)["spec"]["rayClusterConfig"] for name, values in CASES.items()}
EACH = pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS.keys())


def pods(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Templates: of the head, then of the workers."""
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def container(pod: dict[str, Any]) -> dict[str, Any]:
    [found] = pod["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_it_is_made_from_the_cluster_file() -> None:
    assert DEFAULT["spec"]["serveConfigV2"] == CONFIG.read_text()


@EACH
def test_pods_are_locked_down(cluster: dict[str, Any]) -> None:
    contexts = [container(pod)["securityContext"] for pod in pods(cluster)]
    for context in [*contexts, cluster["autoscalerOptions"]["securityContext"]]:
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    for pod in pods(cluster):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["restartPolicy"] == "Never"  # what autoscaler v2 wants
        assert spec["automountServiceAccountToken"] is False
        mounted = {mount["name"]: mount for mount in container(pod)["volumeMounts"]}
        assert mounted["scratch"]["mountPath"] == "/tmp"
        assert mounted.keys() <= {volume["name"] for volume in spec["volumes"]}
    names = [mount["name"] for mount in cluster["autoscalerOptions"]["volumeMounts"]]
    assert names == ["scratch", "kubernetes"], "it alone may ask Kubernetes for pods"


@EACH
def test_what_decoders_get_opens_nothing(cluster: dict[str, Any]) -> None:
    for pod in pods(cluster):
        secrets = [entry for entry in container(pod)["env"] if "valueFrom" in entry]
        mounted = {mount["name"] for mount in container(pod)["volumeMounts"]}
        if pod["metadata"]["labels"]["ledger"] == "false":
            assert not secrets
            assert mounted <= {"scratch", "models"}


def test_passwords_are_references() -> None:
    head, cpu, _ = pods(CLUSTERS["default"])
    for pod in (head, cpu):
        [password] = [entry for entry in container(pod)["env"] if entry["name"] == "PGPASSWORD"]
        assert "secretKeyRef" in password["valueFrom"]


def test_variables_are_what_the_code_reads() -> None:
    for pod in pods(CLUSTERS["default"]):
        env = {entry["name"]: entry.get("value") for entry in container(pod)["env"]}
        assert env["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert env["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
        trusted = _TrustedHosts(env["FORWARDED_ALLOW_IPS"] or "")
        assert not any(peer in trusted for peer in ("127.0.0.1", "10.0.0.1", "::1", "localhost"))
        callback = env["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] or ""
        module, _, name = callback.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_a_lost_node_is_noticed_as_soon_as_under_load_in_make_chaos_cluster() -> None:
    env = container(pods(CLUSTERS["default"])[0])["env"]
    assert DETECTION.items() <= {one["name"]: one.get("value") for one in env}.items()


def test_ray_asks_for_the_token_of_a_secret() -> None:
    for cluster in CLUSTERS.values():
        assert cluster["authOptions"] == {"mode": "token", "secretName": "meltproof-ray"}
    assert "meltproof-ray" in (ROOT / "docs/kubernetes.md").read_text()
    ports = [port["containerPort"] for port in container(pods(CLUSTERS["default"])[0])["ports"]]
    assert 10_001 not in ports, "the head's Service would offer it"


def test_losing_the_head_is_not_losing_the_cluster() -> None:
    kept = CLUSTERS["default"]["gcsFaultToleranceOptions"]
    assert "secretKeyRef" in kept["redisPassword"]["valueFrom"]
    assert "gcsFaultToleranceOptions" not in CLUSTERS["cpu-kind"]


@EACH
def test_probes_need_no_program_of_the_image(cluster: dict[str, Any]) -> None:
    paths = []
    for pod in pods(cluster):
        one = container(pod)
        assert one["livenessProbe"]["httpGet"] == {
            "path": "/api/local_raylet_healthz",
            "port": 52_365,
        }
        ready = one["readinessProbe"]["httpGet"]
        paths.append((ready["path"], ready["port"]))
    assert paths == [("/api/gcs_healthz", 8265)] + [("/-/healthz", 8000)] * (len(paths) - 1)


@EACH
def test_pods_that_are_told_to_leave_hand_their_renders_on(cluster: dict[str, Any]) -> None:
    for pod in pods(cluster)[1:]:
        [_, _, script] = container(pod)["lifecycle"]["preStop"]["exec"]["command"]
        words = script.partition("||")[0].split()
        assert words[:2] == ["meltproof", "drain"]
        told = drain._parser().parse_args(words[2:])
        assert told.this_one
        assert told.wait
        assert told.deadline + 10 < pod["spec"]["terminationGracePeriodSeconds"]


@EACH
def test_prometheus_finds_its_ports(cluster: dict[str, Any]) -> None:
    for pod in pods(cluster):
        ports = {port["name"]: port["containerPort"] for port in container(pod)["ports"]}
        assert (ports["metrics"], ports["meltproof"]) == (8080, PORT)


@pytest.mark.parametrize("example", [None, *EXAMPLES], ids=lambda e: e.stem if e else "default")
def test_the_groups_are_what_the_config_asks_for(example: Path | None) -> None:
    service = ray_service(values_of(example) if example else {})
    cluster = service["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    least = most = 0.0
    for application in parse_serve_config(config, "serveConfigV2").applications:
        for deployment in application.deployments:
            pool = ((deployment.ray_actor_options or {}).get("label_selector") or {}).get("pool")
            if deployment.name in ("Gateway", "Dispatcher") and len(groups) > 1:
                assert groups[pool]["template"]["metadata"]["labels"]["ledger"] == "true"
                assert groups[pool]["labels"] == {"pool": pool}
            if deployment.name == "Decoder" and (scaling := deployment.autoscaling_config):
                least += (scaling.min_replicas or 0) * application.args.decoder.num_gpus
                most += scaling.max_replicas * application.args.decoder.num_gpus
        for group in groups.values():
            grace = group["template"]["spec"]["terminationGracePeriodSeconds"]
            assert grace > application.args.decoder.grace_seconds + 10  # preStop's pause is first
    gpus = {
        name: container(group["template"])["resources"]["limits"].get("nvidia.com/gpu", 0)
        for name, group in groups.items()
    }
    assert least <= sum(groups[name]["minReplicas"] * gpus[name] for name in groups)
    assert most == sum(groups[name]["maxReplicas"] * gpus[name] for name in groups)


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
    merged = {**DEFAULT, "spec": {**DEFAULT["spec"], **patch["spec"]}}
    assert everything_wrong(merged) == []
    file.write_text(CONFIG.read_text().replace("meltproof@ledger", "meltproof:sesame@ledger"))
    assert main(["apply", str(file), "--kuberay", "meltproof"]) == 0
    assert "ledger.dsn is a secret" in capsys.readouterr().err
