"""The chart's NetworkPolicies, evaluated as Kubernetes documents them: which pods reach which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deployments.metrics.settings import PORT
from scripts.rayservice.chart import manifests, rendered

FOUND = manifests(rendered())
NETWORK = [one for one in FOUND if one["kind"] == "NetworkPolicy"]
[CLUSTER] = [one["spec"]["rayClusterConfig"] for one in FOUND if one["kind"] == "RayService"]
OURS: dict[str, tuple[str | None, dict[str, str]]] = {
    group.get("groupName", "head"): (None, group["template"]["metadata"]["labels"])
    for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"])
}
OTHERS: dict[str, tuple[str | None, dict[str, str]]] = {
    "another pod": (None, {"app": "other"}),
    "operator": ("kuberay-system-example", {"app.kubernetes.io/name": "kuberay-operator"}),
    "beside the operator": ("kuberay-system-example", {"app": "other"}),
    "load balancer": ("ingress-example", {}),
    "Prometheus": ("monitoring-example", {}),
    "database": ("databases", {}),
    "DNS": ("kube-system", {}),
}
"""Namespace (None: that of the service) and labels."""
ALL = OURS | OTHERS
RAYS_PORTS = (6379, 8265, 10_001, 52_365, 8076, 10_100)


def connects(
    source: str, target: str, port: int, network: Sequence[dict[str, Any]] = NETWORK
) -> bool:
    """What Kubernetes promises of its policies, of which each allows and none forbids."""
    ways = (
        ("Ingress", "ingress", "from", target, source),
        ("Egress", "egress", "to", source, target),
    )
    for kind, rules, peers, chosen, other in ways:
        selecting = [
            policy["spec"]
            for policy in network
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


def test_a_collector_of_traces_is_reached_where_it_is_named() -> None:
    assert not any(connects("gpu", each, 4318) for each in OTHERS)
    values = {"namespaces": {"telemetry": "monitoring-example"}}
    found = [one for one in manifests(rendered(values)) if one["kind"] == "NetworkPolicy"]
    assert {each for each in OTHERS if connects("gpu", each, 4318, found)} == {"Prometheus"}
    assert not any(connects("gpu", each, 5432, found) for each in OTHERS)


def test_each_group_is_there() -> None:
    assert [*OURS] == ["head", "cpu", "gpu"]
    assert len(NETWORK) == 3


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
        for port in (8080, PORT):
            assert {each for each in OTHERS if connects(each, ours, port)} == {"Prometheus"}


def test_decoders_reach_no_database() -> None:
    assert [ours for ours in OURS if connects(ours, "database", 5432)] == ["head", "cpu"]
    assert {each for each in OTHERS if connects("gpu", each, 53)} == {"DNS"}
    assert not any(connects("gpu", each, 443) for each in OTHERS)
