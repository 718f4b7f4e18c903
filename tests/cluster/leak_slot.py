"""Reserves decoder slots, says so for each, and waits to be killed: a dispatcher that dies between
reserving and dispatching."""

from __future__ import annotations

import asyncio
import sys

import ray
from ray import serve


async def reserve(address: str, most: int) -> None:
    ray.init(address=address, log_to_driver=False, logging_level="error")
    handle = serve.get_deployment_handle("Decoder", "meltproof")
    slots = handle.options(stream=True, method_name="render")
    contexts = [slots.choose_replica() for _ in range(most)]
    for context in contexts:
        await context.__aenter__()
        print("reserved", flush=True)
    sys.stdin.read()


asyncio.run(reserve(sys.argv[1], int(sys.argv[2])))
