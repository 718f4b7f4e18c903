"""Idempotency-Keys of activities. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from temporalio.activity import Info


def idempotency_key(info: Info, path: str, body: Mapping[str, Any]) -> str:
    """The same for every attempt of an activity, on any worker, after a reset and in a retried run.

    Neither the attempt nor the run is in it. The order is: runs that go on under one workflow id
    (continue-as-new, a schedule) count their activities anew, and other words are another picture.
    The same words in such a run find the job of the run before for as long as the service knows
    keys, a day, unless the workflow gives the activity an id of its own.
    """
    named = [info.namespace, info.workflow_id, info.activity_id, path, body]
    text = json.dumps(named, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"temporal-{hashlib.sha256(text.encode()).hexdigest()}"
