"""A config file as the simulator takes it: lane, cost of a pass, scaling policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from autoscaling.policies import build_policy
from autoscaling.policy import Policy
from autoscaling.simulator.baselines import Requests, baseline
from autoscaling.simulator.workload import ColdStart, Lane
from engine.cost import PRIOR, PassCost
from engine.decoders.paced import PacedDecoder
from jobs.policy.fair_queue import FairQueue
from serve_app.config.cluster import ClusterConfig, ending, with_live
from serve_app.config.errors import ConfigError
from serve_app.config.sections import HEADROOM
from serve_app.config.serve_file import Application, ServeFile

PRODUCTION_STARTS = ColdStart(22.7, 42.0)
"""How long a base model took to load in a production service (Alibaba's GenTD26 trace)."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no config file says; see simulator.work.Lane."""

    picture_seconds: float | None = None
    """GPU-seconds of one image; None: as the config has it."""
    cold_start: ColdStart = PRODUCTION_STARTS
    nodes: int | None = None
    start_failures: float = 0.0
    failures_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """One lane and its policy."""

    name: str
    lane: Lane
    wait_seconds: float
    """What the policy aims at."""
    new_policy: Callable[[], Policy] | None
    """A fresh one for each run; None: as many replicas as there are."""

    def scaled_by(self, name: str) -> Simulated:
        """The same lane, scaled by that baseline."""
        lane = self.lane
        requests = Requests(lane.picture_seconds, lane.slots)
        return replace(
            self,
            name=name,
            new_policy=lambda: baseline(name, requests, lane.min_replicas, lane.max_replicas),
        )


def simulated(
    path: Path, file: ServeFile, lane_name: str | None, assumptions: Assumptions
) -> Simulated:
    """One lane of the file. ConfigError, naming the field."""
    application, number = _application(path, file, lane_name)
    config = _config(application, number)
    least, most, ours = _bounds(path, application, number)
    lane = Lane(
        cost=_cost(path, config, assumptions.picture_seconds),
        slots=config.decoder.slots,
        passes=config.qualities.medium,
        tiers=config.tier_promises(),
        least_share=config.least_share,
        min_replicas=least,
        max_replicas=most,
        replicas=least,
        cold_start=assumptions.cold_start,
        nodes=assumptions.nodes,
        grace_seconds=config.decoder.grace_seconds,
        start_failures=assumptions.start_failures,
        failures_per_hour=assumptions.failures_per_hour,
        headroom=HEADROOM,
        ready_images=config.dispatcher.ready_queue * config.dispatcher.replicas,
        thresholds=config.thresholds(),
        late_seconds=config.scaling.late_seconds,
        deadline_seconds=config.limits.deadline_seconds,
    )
    numbers, fair_queue = (
        config.scaling.numbers(least, most),
        FairQueue(lane.tiers, lane.least_share),
    )
    new_policy = (lambda: build_policy(numbers, fair_queue)) if ours else None
    name = f"{path.stem}: {config.model.name}" if lane_name else path.stem
    return Simulated(name, lane, numbers.wait_seconds, new_policy)


def _config(application: Application, number: int) -> ClusterConfig:
    """Of one of its models, as the gateway of its lane or its own dispatcher reads it."""
    reader = "Gateway" if application.has_gateway else "Dispatcher"
    for deployment in application.deployments:
        if deployment.name == reader and deployment.user_config is not None:
            live = deployment.user_config.model_dump(exclude_none=True)
            args = with_live(application.args, live)
            return application.model_copy(update={"args": args}).models()[number]
    return application.models()[number]


def _bounds(path: Path, application: Application, number: int) -> tuple[int, int, bool]:
    """Least and most replicas, and whether our policy moves between them."""
    one = application.models()[number]
    decoder = f"Decoder{ending(application.args, one)}"
    for deployment in application.deployments:
        if deployment.name == decoder and (scaling := deployment.autoscaling_config):
            if not scaling.ours:
                raise ConfigError(
                    f"{path}: deployments.{decoder}.autoscaling_config.policy: only DecoderPolicy "
                    f"is simulated; --compare ray-default shows Serve's own"
                )
            return scaling.min_replicas, scaling.max_replicas, True
        if deployment.name == decoder and isinstance(deployment.num_replicas, int):
            return deployment.num_replicas, deployment.num_replicas, False
    replicas = one.decoder.replicas
    return replicas, replicas, False


def _application(path: Path, file: ServeFile, lane: str | None) -> tuple[Application, int]:
    """And which of its models; each is known by its queue, and by its name where no other lane has
    a model of that name."""
    found = {
        (one.queue, one.model.name): (application, number)
        for application in file.applications
        for number, one in enumerate(application.models())
    }
    names = ", ".join(f"{queue} ({model})" for queue, model in found)
    if lane is None and len(found) > 1:
        raise ConfigError(f"{path}: has the queues {names}; say which one with --lane")
    queues = [key for key in found if lane in (None, key[0])]
    meant = queues or [key for key in found if key[1] == lane]
    if len(meant) != 1:
        what = "several models" if meant else "no queue and no model"
        raise ConfigError(f"{path}: has {what} {lane!r}, it has: {names}")
    return found[meant[0]]


def _cost(path: Path, config: ClusterConfig, picture_seconds: float | None) -> PassCost:
    """The paced family knows its own; of others the prior's shape is taken, as high as the config
    or the caller says."""
    model, slots = config.model, config.decoder.slots
    shape, row_seconds = PRIOR, model.pass_seconds
    if model.family == "paced":
        try:
            shape = PacedDecoder(**model.options).cost  # type: ignore[arg-type]  # it checks them
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path}: model.options: {error}") from None
        row_seconds = shape.seconds(slots) / slots
    if picture_seconds is not None:
        row_seconds = picture_seconds / config.qualities.medium
    height = row_seconds * slots / shape.seconds(slots)
    return PassCost(shape.fixed_seconds * height, shape.row_seconds * height)
