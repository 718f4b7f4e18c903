"""Reserves a decoder slot, says so, and waits to be killed: a dispatcher that dies between
reserving and dispatching."""

from __future__ import annotations

import asyncio
import sys

import ray
from ray import serve


async def reserve(address: str) -> None:
    ray.init(address=address, log_to_driver=False, logging_level="error")
    handle = serve.get_deployment_handle("Decoder", "meltproof")
    slots = handle.options(stream=True, method_name="render")
    while True:
        context = slots.choose_replica()
        await context.__aenter__()
        print("reserved", flush=True)
        if not sys.stdin.readline():
            return


asyncio.run(reserve(sys.argv[1]))
