"""What deploying a config file over what runs would change, and what each change does. Pure.

Ray Serve 2.60 hashes parts of an application into its code version; when that changes, every
replica of the application is replaced (`get_app_code_version`). Some options of a deployment
replace its own replicas (`DeploymentVersion.requires_actor_restart`); the rest take effect in
place. A test asks Ray the same questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel

from serve_app.config.secret_fields import is_secret, secrets_in
from serve_app.config.serve_file import Application, ServeFile
from serve_app.operate.serve_api import BROKEN


class Effect(Enum):
    """What a change does once it is deployed; {} is the application or the deployment."""

    LIVE = "live, nothing restarts"
    SCALES = "live, replicas of {} start or stop"
    RESTARTS_DEPLOYMENT = "restarts every replica of {}"
    RESTARTS_APPLICATION = "restarts every replica of application {}"
    ADDS = "adds application {}"
    TRIES_AGAIN = "tries again to start application {}"
    REMOVES = "removes application {}"
    IGNORED = "ignored while Serve runs: shut it down first (serve shutdown)"


UNSET = "unset"


@dataclass(frozen=True, slots=True)
class Change:
    """One field. before, after: as they may be shown; secrets only say whether they changed."""

    path: str
    before: str
    after: str
    effect: Effect
    where: str = ""

    def said(self) -> str:
        """The effect in words."""
        return self.effect.value.format(self.where)


CODE = ("import_path", "runtime_env", "args", "autoscaling_policy")
CODE_OF_DEPLOYMENT = ("request_router_config", "deployment_actors")
RESTARTS = frozenset(
    {
        "ray_actor_options",
        "placement_group_bundles",
        "placement_group_strategy",
        "placement_group_bundle_label_selector",
        "max_replicas_per_node",
        "gang_scheduling_config",
    }
)


def changes(status: dict[str, Any], config: dict[str, Any]) -> list[Change]:
    """From what Serve says of itself (`ServeApi.status`) to what the file wants."""
    running = {name: app["deployed_app_config"] for name, app in status["applications"].items()}
    wanted = {app.get("name", "default"): _whole(app, config) for app in config["applications"]}
    found = list(_of_serve(status, config))
    for name, app in wanted.items():
        if running.get(name) is None:
            found.append(Change(name, UNSET, "new", Effect.ADDS, name))
        else:
            edits = _of_application(name, running[name], app)
            found += edits or _again(name, status["applications"][name]["status"])
    for name in running.keys() - wanted.keys():
        if status["applications"][name].get("source") != "imperative":
            found.append(Change(name, "runs", UNSET, Effect.REMOVES, name))
    return found


def _again(name: str, status: str) -> list[Change]:
    """Serve shows the last config that was put, also when that did not start."""
    return [Change(name, status, "RUNNING", Effect.TRIES_AGAIN, name)] if status in BROKEN else []


def _whole(app: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Serve hands the file's logging on to applications that have none of their own."""
    logging = config.get("logging_config")
    return {"logging_config": logging, **app} if logging else app


def _of_serve(status: dict[str, Any], config: dict[str, Any]) -> Iterator[Change]:
    if status.get("proxy_location") is None:
        return  # Serve does not run yet: the first file that is put says all of this
    for section in ("proxy_location", "http_options", "grpc_options"):
        if section in config:
            before, after = status.get(section), config[section]
            if isinstance(before, dict) and isinstance(after, dict):
                before = {key: value for key, value in before.items() if key in after}
            for path, old, new in _leaves(before, after, (section,)):
                yield _change(path, old, new, Effect.IGNORED, section=ServeFile)
    before, after = status.get("target_capacity"), config.get("target_capacity")
    if before != after:
        path, where = ("target_capacity",), "all applications"
        yield _change(path, before, after, Effect.SCALES, where, ServeFile)


def _of_application(name: str, before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    found = []
    for path, old, new in _leaves(_by_name(before), _by_name(after), (name,)):
        effect, where = _effect(path, _by_name(before), _by_name(after))
        found.append(_change(path, old, new, effect, where))
    restarts = any(change.effect is Effect.RESTARTS_APPLICATION for change in found)
    if not restarts and _code(before) != _code(after):  # the order counts, too
        effect = Effect.RESTARTS_APPLICATION
        found.append(Change(f"{name}.deployments", "in order", "in another order", effect, name))
    return found


def _effect(path: tuple[str, ...], before: Any, after: Any) -> tuple[Effect, str]:
    application, section, *rest = path
    if section in CODE:
        return Effect.RESTARTS_APPLICATION, application
    if section != "deployments" or len(rest) < 2:
        return Effect.LIVE, application
    deployment, option = rest[:2]
    where = f"{application}/{deployment}"
    if option in RESTARTS:
        return Effect.RESTARTS_DEPLOYMENT, where
    options = [app["deployments"].get(deployment, {}).get(option) for app in (before, after)]
    scaled = [isinstance(value, dict) for value in options]
    if option in CODE_OF_DEPLOYMENT or (
        option == "autoscaling_config" and (rest[2:3] == ["policy"] or scaled[0] != scaled[1])
    ):
        return Effect.RESTARTS_APPLICATION, application
    return (Effect.SCALES if option == "num_replicas" else Effect.LIVE), where


def _code(app: dict[str, Any]) -> str:
    """Everything that Ray hashes into an application's code version."""
    deployments = app.get("deployments") or []
    scaled = [d["autoscaling_config"] for d in deployments if d.get("autoscaling_config")]
    code: dict[str, Any] = {key: app.get(key) or None for key in CODE}
    code["policies"] = [config.get("policy") for config in scaled]
    for key in CODE_OF_DEPLOYMENT:
        code[key] = [d[key] for d in deployments if d.get(key)]
    return json.dumps(code, sort_keys=True)


def _by_name(app: dict[str, Any]) -> dict[str, Any]:
    named = {
        d["name"]: {key: value for key, value in d.items() if key != "name"}
        for d in app.get("deployments") or []
    }
    return {**{k: v for k, v in app.items() if k != "name"}, "deployments": named}


Leaf = tuple[tuple[str, ...], Any, Any]


def _leaves(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[Leaf]:
    """Where the two differ, as deep as both are mappings, or lists of them."""
    old, new = _branches(before, after), _branches(after, before)
    if old is not None and new is not None:
        for key in dict.fromkeys([*old, *new]):
            yield from _leaves(old.get(key), new.get(key), (*path, key))
    elif json.dumps(before, sort_keys=True) != json.dumps(after, sort_keys=True):
        yield path, before, after


def _branches(value: Any, other: Any) -> dict[str, Any] | None:
    """What can be compared entry by entry; where it is missing and the other has some: nothing."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return {str(number): one for number, one in enumerate(value)}
    if isinstance(value, dict):
        return value
    return {} if value is None and other and isinstance(other, dict | list) else None


INSTEAD = {
    "dsn": "leave the password to PGPASSWORD, ~/.pgpass or ?passfile= on the nodes",
    "key": "name a `file` that holds it, or make keys with `meltproof keys create`",
    "secret": "name a `file` that holds it",
}


def logged_secrets(config: dict[str, Any]) -> list[str]:
    """Of secrets in args, which Ray Serve writes into its log on the node that starts an
    application: a sentence for each, with what to do instead."""
    args = [path for path, _ in secrets_in(ServeFile, config) if path[2:3] == ("args",)]
    return [
        f"{'.'.join(path)}: is a secret, and Ray Serve writes args into its log: "
        + INSTEAD.get(path[-1], "take it out of args")
        for path in args
    ]


def literal_secrets(config: dict[str, Any], *, loopback: bool) -> list[str]:
    """Of secrets that stand in the file and not in args, and of those in args that are more than a
    laptop's keys: a sentence for each, with what to do instead."""
    said = []
    for path, _ in secrets_in(ServeFile, config):
        args, ours = path[2:3] == ("args",), {"user_config", "http_options"} & {path[0], *path[4:5]}
        harmless = loopback and "keys" in path[3:6] and path[-1] == "key"
        if harmless or not (ours or (args and loopback)):
            continue
        instead = INSTEAD.get(path[-1], "keep it elsewhere")
        said.append(f"{'.'.join(path)}: is a secret that stands in the file: {instead}")
    return said


def inline_secrets(config: dict[str, Any]) -> list[str]:
    """Paths of secrets that stand in the file itself."""
    return [".".join(path) for path, _ in secrets_in(ServeFile, config)]


def _change(
    path: tuple[str, ...],
    before: Any,
    after: Any,
    effect: Effect,
    where: str = "",
    section: type[BaseModel] = Application,
) -> Change:
    """path: the application's name first, or else the path in `section`."""
    old, new = (UNSET if value is None else json.dumps(value) for value in (before, after))
    below = path[1:] if section is Application else path
    if any(is_secret(section, below, value) for value in (before, after)):
        old, new = (text if text == UNSET else "(secret)" for text in (old, new))
        new = "(another secret)" if old == new else new
    shown = [part for part in path if part != "deployments"]
    return Change(".".join(shown), old, new, effect, where)
