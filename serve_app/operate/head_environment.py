"""The environment and the options of a local cluster's head process: what is decided here rather
than by what the user's shell, home or earlier Ray sessions hold. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serve_app.operate.http_proxies import no_proxy

LOOPBACK = "127.0.0.1"
ALWAYS = {
    # With "clusters" off, Ray takes 127.0.0.1 as the node's address and binds only there.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Otherwise Ray asks for a token as soon as ~/.ray/auth_token exists.
    "RAY_AUTH_MODE": "disabled",
    # Nothing of ours blocks an event loop, so a replica needs no thread more for it.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "FORWARDED_ALLOW_IPS": "",  # gateways decide themselves whose X-Forwarded-For they believe
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # ten times a second costs an idle laptop
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "1000",  # as above, in every replica and router
    # An entry point by name, as the import_path of a config file is.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.proxy:middlewares",
}
HEAD_ID = 51 * "f" + "00000"  # Ray's name for it
LOGICAL_NODES = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
}
"""What Ray's fake node provider wants to find; it adds raylets instead of machines."""
OF_OTHER_CLUSTERS = frozenset(
    {
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "RAY_DASHBOARD_ADDRESS",
        "RAY_REDIS_ADDRESS",
        "RAY_NAMESPACE",
        "RAY_TMPDIR",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
    }
)
"""What a user may have set for another Ray cluster, and what would mislead this one."""
PORT_OPTIONS = (
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--runtime-env-agent-port",
    "--metrics-export-port",
    "--node-manager-port",
    "--object-manager-port",
    "--ray-client-server-port",
)
"""Each gets a port that is free: of several of them Ray has a fixed default, which another cluster
on this machine may hold."""
PORT_VARIABLES = ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")
"""Two more, which have no option."""
ANY_WORKER_PORT = ("--min-worker-port=0", "--max-worker-port=0")
"""Otherwise the workers of all clusters choose from 10002 to 19999, each by its own count."""
SOCKET_PATH_BYTES = 107
LONGEST_BELOW_TEMP = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/dash_MetricsHead")


def head_environment(
    given: Mapping[str, str], ports: Sequence[int], temporary: str, *, logical_nodes: bool
) -> dict[str, str]:
    """Of the head, which hands it on to every process below it. given: that of this process.
    ports: for PORT_VARIABLES. temporary: a folder in which unix sockets have short paths, since
    Python's own processes make some there, too."""
    kept = {name: value for name, value in given.items() if name not in OF_OTHER_CLUSTERS}
    taken = {name: str(port) for name, port in zip(PORT_VARIABLES, ports, strict=True)}
    nodes = LOGICAL_NODES if logical_nodes else {}
    return {**kept, **no_proxy(kept), **ALWAYS, **taken, **nodes, "TMPDIR": temporary}


def sockets_fit(folder: str) -> bool:
    """Whether the paths of Ray's unix sockets below a temporary folder stay under their limit."""
    name = len("/mp-") + 8  # what mkdtemp makes of our prefix
    return len(folder.encode()) + name + LONGEST_BELOW_TEMP <= SOCKET_PATH_BYTES
