"""The image as a pod runs it: user 1000, a read-only root, no capabilities, a head as the KubeRay
operator starts one, the service deployed through its dashboard, the probes inside of it."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.image.build import RUNTIME

STARTS_SECONDS = 180.0
OPEN_FILES = 20000
# What a container may do here, and no more; nothing outside of it is reachable, nor it from there.
CONFINED = (
    "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=none",
    f"--ulimit=nofile={OPEN_FILES}:{OPEN_FILES}", "--ulimit=nproc=8000:8000", "--shm-size=512m",
    "--tmpfs=/tmp:rw,mode=1777", "--volume=/var/lib/meltproof",
)  # fmt: skip
HEAD = (
    "ray start --head --block --num-cpus=4 --dashboard-host=127.0.0.1 --node-ip-address=127.0.0.1 "
    "--disable-usage-stats"
)
PROBES = {
    "raylet": "wget -T 4 -q -O- http://localhost:52365/api/local_raylet_healthz | grep success",
    "gcs": "wget -T 4 -q -O- http://localhost:8265/api/gcs_healthz | grep success",
    "proxy": "wget -T 4 -q -O- http://localhost:8000/-/healthz | grep success",
}
"""The paths that the pods of k8s ask; each says success, and ends with 0."""


class Container:
    """A running one. Raises subprocess.CalledProcessError where a command in it fails."""

    def __init__(self, name: str) -> None:
        self._name = name

    def run(self, *command: str) -> str:
        """The output of a command in it."""
        return podman("exec", self._name, *command)

    def fetch(self, inside: str, outside: Path) -> None:
        """Copy a file out, which may lie in a tmpfs of it."""
        done = subprocess.run(
            ["podman", *RUNTIME, "exec", self._name, "cat", inside], capture_output=True, check=True
        )
        outside.write_bytes(done.stdout)

    def wait_for(self, shell: str) -> None:
        """Until that ends with 0. Raises TimeoutError, with what the container has said."""
        deadline = time.monotonic() + STARTS_SECONDS
        while time.monotonic() < deadline:
            command = ["podman", *RUNTIME, "exec", self._name, "bash", "-c", shell]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.3)
        said = subprocess.run(
            ["podman", "logs", self._name], capture_output=True, text=True, check=False
        )
        raise TimeoutError(
            f"{shell}: not yet; the container: {(said.stdout + said.stderr)[-3000:]}"
        )


@contextmanager
def head(image: str, config: Path) -> Iterator[Container]:
    """A Ray head in a container of that image, with `config` at /etc/meltproof/config.yaml; its
    probes answer. The container is removed at the end."""
    name = f"meltproof-image-{secrets.token_hex(4)}"
    token = secrets.token_hex(32)
    podman(
        "run", "--detach", "--restart=on-failure:3", "--name", name, *CONFINED,
        "--env=RAY_AUTH_MODE=token", f"--env=RAY_AUTH_TOKEN={token}",
        f"--volume={config}:/etc/meltproof/config.yaml:ro",
        image, "bash", "-c", f"ulimit -n {OPEN_FILES}; {HEAD}",
    )  # fmt: skip
    try:
        container = Container(name)
        container.wait_for(f"{PROBES['raylet']} && {PROBES['gcs']}")
        yield container
    finally:
        podman("rm", "--force", "--volumes", "--time", "2", name)


def podman(*arguments: str) -> str:
    """What it prints. Raises subprocess.CalledProcessError with its errors in the message."""
    command = ["podman", *RUNTIME, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"podman {arguments[0]}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout
