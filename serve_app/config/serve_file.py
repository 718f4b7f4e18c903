"""A whole config file: a plain Ray Serve config file, refused where Ray would ignore a key.

This is the only file that reads YAML.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from jobs.blobs.places import DirectoryPlace
from serve_app.config.cluster import (
    OWN_SECTIONS,
    ClusterConfig,
    LiveSection,
    checked,
    separate_model,
)
from serve_app.config.errors import ConfigError
from serve_app.config.scaling_options import AutoscalingOptions
from serve_app.config.secret_fields import Secret
from serve_app.config.sections import Section


class HttpOptions(Section):
    """Ray Serve's http_options."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8000
    root_path: str = ""
    request_timeout_s: float | None = None
    keep_alive_timeout_s: int = 90
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile_password: Annotated[str | None, Field(repr=False), Secret()] = None
    ssl_ca_certs: str | None = None


class DeploymentOptions(Section):
    """Ray Serve's options of one deployment; their values are checked by Ray."""

    name: str
    num_replicas: Any = None
    max_ongoing_requests: Any = None
    max_queued_requests: Any = None
    backpressure_config: Any = None
    user_config: LiveSection | None = None
    autoscaling_config: AutoscalingOptions | None = None
    graceful_shutdown_wait_loop_s: Any = None
    graceful_shutdown_timeout_s: Any = None
    health_check_period_s: Any = None
    health_check_timeout_s: Any = None
    ray_actor_options: Any = None
    placement_group_bundles: Any = None
    placement_group_strategy: Any = None
    placement_group_bundle_label_selector: Any = None
    max_replicas_per_node: Any = None
    logging_config: Any = None
    request_router_config: Any = None
    gang_scheduling_config: Any = None
    deployment_actors: Any = None
    rolling_update_percentage: Any = None
    max_surge_percent: Any = None

    @model_validator(mode="after")
    def _one_number_of_replicas(self) -> Self:
        scaling = self.autoscaling_config
        if scaling is None:
            return self
        if self.num_replicas not in (None, "auto"):
            raise ValueError("num_replicas: leave it out, autoscaling_config says how many")
        if scaling.ours and self.name.partition("-")[0] not in scaling.ours:
            raise ValueError(f"autoscaling_config.policy is for {', '.join(scaling.ours)} only")
        return self


WHOLE = "serve_app.app:build"
"""A lane in one application: a gateway and its models."""
GATEWAY = "serve_app.app:gateway"
"""A gateway alone, for the models that are announced in its lane."""
MODEL = "serve_app.app:model"
"""One model of a lane, alone."""
OF_LANE = ("tiers", "temporary_limits", "least_share", "retention", "provenance")
"""Sections that all applications of one lane have alike."""
NOT_OF = {
    GATEWAY: ("model", "models", *OWN_SECTIONS, "safety", "moderation"),
    MODEL: ("models", "gateway", "limits", "keys", "signing", "auth", "strikes"),
}
"""What an application would ignore."""


class Application(Section):
    """Ray Serve's description of one application; ours are the `args`."""

    name: str = "default"
    route_prefix: str | None = "/"
    import_path: str
    runtime_env: dict[str, Any] = {}
    host: str | None = None
    port: int | None = None
    deployments: list[DeploymentOptions] = []
    autoscaling_policy: Any = None
    args: ClusterConfig = ClusterConfig()
    logging_config: Any = None
    external_scaler_enabled: bool = False

    def models(self) -> tuple[ClusterConfig, ...]:
        """Those that run in it, each as the config of a lane that has only it."""
        if self.import_path == GATEWAY:
            return ()
        return (separate_model(self.args),) if self.import_path == MODEL else self.args.each()

    def beside(self, other: Application) -> bool:
        """Whether both are of one lane."""
        mine, theirs = self.args, other.args
        return (mine.ledger.dsn, mine.lane) == (theirs.ledger.dsn, theirs.lane)

    @property
    def has_gateway(self) -> bool:
        """Whether clients talk to it."""
        return self.import_path != MODEL

    @model_validator(mode="after")
    def _says_what_it_uses(self) -> Self:
        shipped = ClusterConfig()
        for section in NOT_OF.get(self.import_path, ()):
            if getattr(self.args, section) != getattr(shipped, section):
                raise ValueError(
                    f"args.{section}: leave it out, {self.import_path} does not use it"
                )
        if self.import_path == MODEL and self.route_prefix is not None:
            raise ValueError("route_prefix: must be null, as the lane's gateway takes the requests")
        return self


class ServeFile(Section):
    """A whole Serve config file. Ray itself ignores keys that it does not know; we refuse them."""

    proxy_location: Literal["Disabled", "HeadOnly", "EveryNode"] = "EveryNode"
    http_options: HttpOptions = HttpOptions()
    grpc_options: Any = None
    controller_options: Any = None
    logging_config: Any = None
    tracing_config: Any = None
    applications: Annotated[list[Application], Field(min_length=1)]
    target_capacity: float | None = None

    @model_validator(mode="after")
    def _lanes_are_apart(self) -> Self:
        owners: dict[tuple[str, str], str] = {}
        firsts: dict[str, ClusterConfig] = {}
        for number, application in enumerate(self.applications):
            args = application.args
            first = firsts.setdefault(args.ledger.dsn, args)
            store, zone = first.blobs.place(), first.quota.time_zone
            if store != args.blobs.place():
                where = repr(store.directory) if isinstance(store, DirectoryPlace) else "the same"
                raise ValueError(
                    f"applications.{number}.args.{store.field}: must be {where}, as in the "
                    "other lanes of the same ledger: each of them deletes what expires there"
                )
            if zone != args.quota.time_zone:
                raise ValueError(
                    f"applications.{number}.args.quota.time_zone: must be {zone!r}, as in the "
                    "other lanes of the same ledger: a day's images are counted for all of them"
                )
            for queue in (one.queue for one in application.models()):
                owner = owners.setdefault((args.ledger.dsn, queue), application.name)
                if owner != application.name:
                    field, kind = ("lane", "lane") if queue == args.lane else ("model", "queue")
                    raise ValueError(
                        f"applications.{number}.args.{field}: {queue!r} is the {kind} of "
                        f"application {owner!r} already, and on the same ledger each would run the "
                        "other's jobs"
                    )
        return self

    @model_validator(mode="after")
    def _models_of_a_lane_have_other_names(self) -> Self:
        owners: dict[tuple[str, str, str], str] = {}
        for number, application in enumerate(self.applications):
            args = application.args
            for one in application.models():
                for name in {one.model.name, *one.model.aliases}:
                    key = (args.ledger.dsn, args.lane, name)
                    if (owner := owners.setdefault(key, application.name)) != application.name:
                        raise ValueError(
                            f"applications.{number}.args.model: {name!r} is a name of the model of "
                            f"application {owner!r} already, in the same lane"
                        )
        return self

    @model_validator(mode="after")
    def _lanes_are_of_one_mind(self) -> Self:
        firsts: dict[tuple[str, str], Application] = {}
        for number, application in enumerate(self.applications):
            args = application.args
            first = firsts.setdefault((args.ledger.dsn, args.lane), application)
            for section in OF_LANE:
                if getattr(args, section) != getattr(first.args, section):
                    raise ValueError(
                        f"applications.{number}.args.{section}: must be as in application "
                        f"{first.name!r} of the same lane, best through a YAML anchor"
                    )
        return self


def load_serve_config(path: str | Path) -> dict[str, Any]:
    """The file as Ray Serve takes it, after a strict check of the whole of it.

    Raises ConfigError naming the file and the field.
    """
    document = read_yaml(Path(path))
    parse_serve_config(document, str(path))
    return document


def parse_serve_config(document: object, source: str) -> ServeFile:
    """The checked file. Raises ConfigError; `source` names the file in it."""
    return checked(ServeFile, document, source)


def read_text(path: Path) -> str:
    """A config file as it stands. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8: {error.reason}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The document, not checked yet. Raises ConfigError."""
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """The document of that text. Raises ConfigError; `path` names the file in it."""
    try:
        document = yaml.safe_load(text)
    except RecursionError:
        raise ConfigError(f"{path}: not YAML: nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must be a mapping with the key applications")
    return document
