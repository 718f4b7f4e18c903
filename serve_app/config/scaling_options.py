"""Ray Serve's `autoscaling_config` of one deployment, checked as strictly as the rest of the file.

Serve's own policies and those of other packages are welcome; ours are known by their names.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from serve_app.config.sections import Count, Seconds, Section

DECODER_POLICY = "autoscaling.ray_policy:DecoderPolicy"
REQUESTS_POLICY = "autoscaling.ray_policy:RequestsPolicy"
DEPLOYMENTS = {
    DECODER_POLICY: ("Decoder",),
    REQUESTS_POLICY: ("Gateway", "PromptEncoder", "SafetyClassifier"),
}
"""Our policies, and the deployments that they can scale."""

Delay = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PolicyOptions(Section):
    """Which policy, as `module:name`. Its kwargs belong to the code of an application: an edit of
    them replaces every replica, so ours take none."""

    policy_function: Annotated[str, Field(pattern=r"^[\w.]+[:.]\w+$")]
    policy_kwargs: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _ours_exist(self) -> Self:
        if not self.policy_function.startswith("autoscaling."):
            return self
        if self.policy_function not in DEPLOYMENTS:
            known = ", ".join(DEPLOYMENTS)
            raise ValueError(
                f"policy_function: unknown policy {self.policy_function!r}, known: {known}"
            )
        if self.policy_kwargs:
            raise ValueError("policy_kwargs: leave them out; DecoderPolicy reads args.scaling")
        return self


class AutoscalingOptions(Section):
    """Bounds, delays and policy; names and defaults are Serve's."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    initial_replicas: Annotated[int, Field(ge=0)] | None = None
    max_replicas: Count = 1
    target_ongoing_requests: Seconds | None = None
    look_back_period_s: Seconds = 30.0
    metrics_interval_s: Seconds = 10.0
    upscaling_factor: Seconds | None = None
    downscaling_factor: Seconds | None = None
    upscale_delay_s: Delay = 30.0
    downscale_delay_s: Delay = 600.0
    downscale_to_zero_delay_s: Delay | None = None
    aggregation_function: Literal["mean", "max", "min"] = "mean"
    policy: PolicyOptions | None = None

    @property
    def ours(self) -> tuple[str, ...]:
        """Deployments that the policy can scale, where it is one of ours."""
        return DEPLOYMENTS.get(self.policy.policy_function, ()) if self.policy else ()

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas ({self.min_replicas}) is above max_replicas ({self.max_replicas})"
            )
        first = self.initial_replicas
        if first is not None and not self.min_replicas <= first <= self.max_replicas:
            raise ValueError(
                f"initial_replicas ({first}) must be between min_replicas ({self.min_replicas}) "
                f"and max_replicas ({self.max_replicas})"
            )
        return self

    @model_validator(mode="after")
    def _our_policy_decides_alone(self) -> Self:
        if not self.ours:
            return self
        for name in ("upscale_delay_s", "downscale_delay_s", "downscale_to_zero_delay_s"):
            if getattr(self, name):
                raise ValueError(f"{name} must be 0 (say so): this policy does its own waiting")
        for name in ("upscaling_factor", "downscaling_factor"):
            if getattr(self, name) not in (None, 1):
                raise ValueError(f"{name}: leave it out, this policy decides alone")
        if self.initial_replicas is not None:
            raise ValueError("initial_replicas: leave it out, every edit would jump back to it")
        return self
