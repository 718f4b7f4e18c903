"""What the dashboard of a Ray cluster answers about Serve: REST, so that no process joins Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from autoscaling.capacity import NodeCapacity
from serve_app.operate.http_proxies import UnusableEnvironment, http_client, without_password

APPLICATIONS = "/api/serve/applications/"
POLL_SECONDS = 0.25
BROKEN = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})

Say = Callable[[str], None]


class ClusterFailed(RuntimeError):
    """A cluster does not answer, refused a config, or could not start it; the message says which
    part, and where to look."""


class NoCluster(ClusterFailed):
    """Nothing answers at the address."""


@dataclass(frozen=True, slots=True)
class ServeApi:
    """The Serve of the cluster whose dashboard is at `address`."""

    address: str
    token: str | None = field(default=None, repr=False)
    """Ray's, sent only when the cluster asks for one."""

    def status(self) -> dict[str, Any]:
        """Everything that Serve says about itself. Raises ClusterFailed."""
        status: dict[str, Any] = self._call("GET", APPLICATIONS).json()
        return status

    def put(self, config: dict[str, Any]) -> None:
        """What `serve deploy` does: the whole config; numbers take effect in place, applications
        that it does not name are deleted. Raises ClusterFailed."""
        self._call("PUT", APPLICATIONS, config)

    def nodes(self) -> list[NodeCapacity]:
        """What each living node offers. Raises ClusterFailed."""
        answer = self._call("GET", "/api/v0/nodes?detail=1&limit=10000").json()
        return [
            NodeCapacity(offered.get("CPU", 0.0), offered.get("GPU", 0.0))
            for node in answer["data"]["result"]["result"]
            if node["state"] == "ALIVE" and (offered := node["resources_total"]) is not None
        ]

    def await_running(self, config: dict[str, Any], say: Say) -> None:
        """Until every application runs as `config`, which was just put, says: Serve calls it
        DEPLOYING from the put on. Raises ClusterFailed with the reason."""
        wanted, said = {app["name"] for app in config["applications"]}, ""
        while True:
            applications = self.status()["applications"]
            ours = {name: app for name, app in applications.items() if name in wanted}
            if failed := [app for app in ours.values() if app["status"] in BROKEN]:
                raise ClusterFailed("\n".join(explain(app) for app in failed))
            if ours.keys() == wanted and all(app["status"] == "RUNNING" for app in ours.values()):
                return
            if (now := progress(ours)) != said:
                said = now
                say(now)
            time.sleep(POLL_SECONDS)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        shown = without_password(self.address)
        try:
            answer = self._ask(method, path, body)
        except (httpx.InvalidURL, ValueError):
            raise NoCluster(f"{shown!r} is not an address (--address)") from None
        except (httpx.HTTPError, UnusableEnvironment) as error:
            why = str(error) or type(error).__name__
            raise NoCluster(
                f"no Ray dashboard answers at {shown} ({why}); name it with --address"
            ) from None
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ClusterFailed(refused(shown, with_token=self.token is not None))
        if answer.is_error:
            raise ClusterFailed(f"Ray Serve refused {method} {path}: {answer.text.strip()}")
        return answer

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        url = f"{self.address}{path}"
        with http_client(self.address, timeout=60) as http:
            answer = http.request(method, url, json=body)
            if answer.status_code == httpx.codes.UNAUTHORIZED and self.token:
                token = {"Authorization": f"Bearer {self.token}"}
                answer = http.request(method, url, json=body, headers=token)
            return answer


def ray_token(environment: Mapping[str, str]) -> str | None:
    """RAY_AUTH_TOKEN, or else what the file RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token holds; None
    where there is none, or RAY_AUTH_MODE says that none is wanted."""
    if environment.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    if given := environment.get("RAY_AUTH_TOKEN", "").strip():
        return given
    home = environment.get("HOME", "")
    path = environment.get("RAY_AUTH_TOKEN_PATH") or (home and f"{home}/.ray/auth_token")
    with suppress(OSError, ValueError):
        return (path and Path(path).read_text(encoding="ascii").strip()) or None
    return None


def refused(address: str, *, with_token: bool) -> str:
    """What a 401 or 403 of a dashboard means, in words."""
    if with_token:
        return (
            f"the Ray cluster at {address} refuses the token of RAY_AUTH_TOKEN, "
            "RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token: it was started with another one"
        )
    return (
        f"the Ray cluster at {address} asks for a token: give that of the cluster in "
        "RAY_AUTH_TOKEN, or a file that holds it in RAY_AUTH_TOKEN_PATH"
    )


def progress(applications: dict[str, Any]) -> str:
    """Which deployments are up, in one line."""
    deployments = [d for app in applications.values() for d in app["deployments"].values()]
    up = sorted(d["name"] for d in deployments if d["status"] == "HEALTHY")
    return f"{len(up)} of {len(deployments)} deployments are up: {', '.join(up)}"


def explain(application: dict[str, Any]) -> str:
    """Why an application failed, as far as Serve knows."""
    lines = [f"application {application['name']}: {reason(application['message'])}"]
    lines += [
        f"  {name}: {reason(d['message'])}"
        for name, d in application["deployments"].items()
        if d["status"] != "HEALTHY" and d["message"]
    ]
    return "\n".join(lines)


def reason(message: str) -> str:
    """What a message says; of a traceback that ends in a config that cannot be used, that alone."""
    _, found, sentence = message.strip().rpartition(".ConfigError: ")
    return sentence if found and "\n" not in sentence else message
