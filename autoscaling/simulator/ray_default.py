"""Ray Serve's default scaling policy, the installed Ray's own functions, on the simulator's clock.

Only this file knows that Ray keeps the time of its delays in an argument that begins with an
underscore.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

from ray.serve import autoscaling_policy as ray_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from autoscaling.policy import Decision, LoadSnapshot

ALL = 1_000_000


class RayDefaultPolicy:
    """requests: in progress and waiting. mean: makes the running mean over so many seconds that
    Ray takes over its look-back period; the delay of its metrics, up to 10 s, is left out.
    delays: Ray's own settings `upscale_delay_s` and `downscale_delay_s`, where they are not its
    defaults."""

    def __init__(
        self,
        requests: Callable[[LoadSnapshot], float],
        mean: Callable[[float], Callable[[float, float], float]],
        ongoing_per_replica: float = 2.0,
        **delays: float,
    ) -> None:
        self._config = AutoscalingConfig(
            min_replicas=0,
            max_replicas=ALL,
            target_ongoing_requests=ongoing_per_replica,
            **delays,
        )
        self._requests = requests
        self._mean = mean(self._config.look_back_period_s)
        self._state: dict[str, Any] = {}

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        context = self._context(snapshot)
        wanted, _ = ray_policy.default_autoscaling_policy(context)
        if snapshot.replicas == 0:  # Serve passes the delays then
            return Decision(math.ceil(wanted), "from zero")
        scaled = ray_policy._apply_scaling_factors(wanted, snapshot.replicas, self._config)
        delayed, self._state = ray_policy._apply_delay_logic(
            max(0, scaled), snapshot.target, self._config, self._state, _now=snapshot.at
        )
        return Decision(cast(int, delayed), f"{wanted:.1f} by requests")

    def _context(self, snapshot: LoadSnapshot) -> AutoscalingContext:
        return AutoscalingContext(
            deployment_id=None,
            deployment_name="decoder",
            app_name=None,
            current_num_replicas=snapshot.replicas,
            target_num_replicas=snapshot.target,
            running_replicas=[],
            total_num_requests=self._mean(snapshot.at, self._requests(snapshot)),
            total_queued_requests=None,
            aggregated_metrics=None,
            raw_metrics=None,
            capacity_adjusted_min_replicas=0,
            capacity_adjusted_max_replicas=ALL,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=snapshot.at,
            config=self._config,
        )
