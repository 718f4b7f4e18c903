"""Scaling policies: small pure objects of the shape `Policy`, and wrappers around them."""

from autoscaling.policies.build import build_policy
from autoscaling.policies.numbers import PolicyNumbers

__all__ = ["PolicyNumbers", "build_policy"]
