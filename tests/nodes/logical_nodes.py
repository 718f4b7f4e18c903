"""Nodes without machines: Ray's own cluster autoscaler adds raylets with logical GPUs."""

from __future__ import annotations

from typing import Any

from serve_app.operate.head_environment import HEAD_ID

EMPTY = (
    "cluster_synced_files",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def logical_gpus(most: int) -> dict[str, Any]:
    """A head without GPUs, and up to `most` nodes of one GPU each that come when somebody asks."""
    return {
        "cluster_name": "logical",
        "max_workers": most,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external",  # the built-in name wants a file that the wheel has not
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
        },
        **{kind: [] for kind in EMPTY},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 4}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 0, "GPU": 1},
                "node_config": {},
                "min_workers": 0,
                "max_workers": most,
            },
        },
        "head_node_type": "ray.head.default",
    }
