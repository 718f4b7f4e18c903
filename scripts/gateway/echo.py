"""The least that Ray Serve can answer an order with: its body is read, and comes back.

Without `from __future__ import annotations`: FastAPI reads the parameters of a class that Serve has
wrapped, and would take the body for a query.
"""

from typing import Annotated, Any

from fastapi import Body, FastAPI
from ray import serve
from ray.serve import Application

from scripts.wire import GENERATIONS
from serve_app.admission.tenants import PER_GATEWAY

app = FastAPI()


@serve.deployment(max_ongoing_requests=PER_GATEWAY, ray_actor_options={"num_cpus": 0.1})
@serve.ingress(app)
class Echo:
    """As a gateway is deployed."""

    @app.post(GENERATIONS, status_code=202)
    async def generations(self, order: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """What was sent."""
        return order


def build(args: dict[str, Any]) -> Application:
    """The entry of a Serve config file."""
    return Echo.bind()  # type: ignore[attr-defined]
