"""Where calls of a store wait: a bucket that hangs holds up no other work that needs a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 16
_POOL = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="blobs")


async def in_store(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, on threads of the stores' own. Raises what `call` does."""
    run = partial(copy_context().run, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_POOL, run)
