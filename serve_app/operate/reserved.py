"""What a Serve config file promises to keep running, deployment by deployment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autoscaling.capacity import Reservation
from serve_app.config.cluster import ending
from serve_app.config.serve_file import Application, DeploymentOptions, ServeFile

SECTIONS = {
    "Dispatcher": "dispatcher",
    "PromptEncoder": "encoder",
    "SafetyClassifier": "safety",
    "Decoder": "decoder",
}
"""A model's deployments as `app.build` names them, and the sections of the args that size them."""


def deployed(application: Application) -> dict[str, Any]:
    """The deployments of an application by name, each with the section that sizes it."""
    args = application.args
    found: dict[str, Any] = {"Gateway": args.gateway} if application.has_gateway else {}
    for one in application.models():
        for name, section in SECTIONS.items():
            if not getattr(getattr(one, section), "local", False):
                found[f"{name}{ending(args, one)}"] = getattr(one, section)
    return found


def local_stages(application: Application) -> dict[str, str]:
    """Of each stage that is local, the name of the deployment that it is not, and its section."""
    args = application.args
    return {
        f"{name}{ending(args, one)}": section
        for one in application.models()
        for name, section in SECTIONS.items()
        if getattr(getattr(one, section), "local", False)
    }


def reservations(file: ServeFile) -> list[Reservation]:
    """One for each deployment of each application, at its least number of replicas."""
    return [found for app in file.applications for found in _of_application(app)]


def _of_application(application: Application) -> Iterator[Reservation]:
    overrides = {options.name: options for options in application.deployments}
    for name, section in deployed(application).items():
        override = overrides.get(name)
        each = _each(override, section)
        yield Reservation(
            application.name,
            name,
            _least(override, section.replicas),
            float(each.get("num_cpus", 1)),  # Serve's own default
            float(each.get("num_gpus", 0)),
            _most(override),
        )


def _each(override: DeploymentOptions | None, section: Any) -> dict[str, Any]:
    if override is not None and override.ray_actor_options is not None:
        return dict(override.ray_actor_options)
    return {"num_cpus": section.num_cpus, "num_gpus": getattr(section, "num_gpus", 0)}


def _least(override: DeploymentOptions | None, replicas: int) -> int:
    """Ray checks the values of these options, so anything strange passes here as one replica."""
    if override is None:
        return replicas
    if override.autoscaling_config is not None:
        return override.autoscaling_config.min_replicas
    if override.num_replicas == "auto":
        return 1
    return int(override.num_replicas or replicas)


def _most(override: DeploymentOptions | None) -> int:
    if override is None or override.autoscaling_config is None:
        return 0
    return override.autoscaling_config.max_replicas
