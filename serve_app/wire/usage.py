"""What was used, in the shape of OpenAI's usage API and as a list of tenants. Pure.

A project is a tenant. Usage is kept by the hour: what begins or ends within one counts all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from jobs.usage import DAY_SECONDS, HOUR_SECONDS, GroupBy, UsageQuery, Used, UsedBy
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.fields import Count, Seconds

MOST_RESULTS = 20_000
WIDTHS = {"1h": HOUR_SECONDS, "1d": DAY_SECONDS}
USUAL_BUCKETS = {"1h": (24, 168), "1d": (7, 31)}
"""How many, and how many at most."""
GROUPS: Mapping[str, GroupBy] = {
    "project_id": "tenant", "model": "model", "size": "size", "source": "source",
}  # fmt: skip
FILTERS: Mapping[str, GroupBy] = {
    "project_ids": "tenant", "models": "model", "sizes": "size", "sources": "source",
}  # fmt: skip
UNKNOWN = ("user_id", "api_key_id")
"""Which of a tenant's keys or users an order came from is not recorded."""


class UsageResult(TypedDict):
    """Fields that `group_by` does not name are null, and so are joules without a counter. The last
    two are of Meltproof."""

    object: Literal["organization.usage.images.result"]
    images: Count
    num_model_requests: Count
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    model: str | None
    size: str | None
    source: str | None
    gpu_seconds: Annotated[float, Field(ge=0)]
    joules: float | None


class UsageBucket(TypedDict):
    object: Literal["bucket"]
    start_time: Seconds
    end_time: Seconds
    results: list[UsageResult]


class UsagePageBody(TypedDict):
    """A page of buckets, oldest first."""

    object: Literal["page"]
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


class TenantUse(TypedDict):
    tenant: str
    images: Count
    requests: Count
    gpu_seconds: Annotated[float, Field(ge=0)]
    share: Annotated[float, Field(ge=0, description="Of the GPU-seconds of all tenants")]
    joules: float | None


class TenantsBody(TypedDict):
    """The tenants that used most, first."""

    object: Literal["list"]
    start_time: Seconds
    end_time: Seconds
    data: list[TenantUse]
    images: Count
    gpu_seconds: Annotated[float, Field(ge=0)]
    joules: float | None


@dataclass(frozen=True, slots=True)
class UsagePage:
    """What a page asks for: buckets from `first` on. end: of what is counted."""

    query: UsageQuery
    first: int
    buckets: int
    end: int

    @property
    def width(self) -> int:
        """Of a bucket, in seconds."""
        return self.query.bucket_seconds or DAY_SECONDS


Asked = Mapping[str, Sequence[str]]
"""A query string; lists may be called `models` or, as the SDKs do, `models[]`."""


def usage_page(asked: Asked, now: float) -> UsagePage:
    """Raises InvalidRequest."""
    width = _one(asked, "bucket_width") or "1d"
    if width not in WIDTHS:
        raise InvalidRequest(
            "'bucket_width' must be 1h or 1d: usage is kept by the hour.", param="bucket_width"
        )
    seconds, (usual, most) = WIDTHS[width], USUAL_BUCKETS[width]
    start = _seconds(asked, "start_time")
    if start is None:
        raise InvalidRequest("'start_time' is missing.", param="start_time")
    end = _seconds(asked, "end_time")
    end = int(now) + 1 if end is None else end
    if end <= start:
        raise InvalidRequest("'end_time' must be after 'start_time'.", param="end_time")
    first = _floor(_page_start(asked, start), seconds)
    buckets = min(_limit(asked, usual, most), -(-(end - first) // seconds))
    query = UsageQuery(
        start=max(_floor(start, HOUR_SECONDS), first),
        end=min(first + buckets * seconds, _ceil(end, HOUR_SECONDS)),
        by=frozenset(_group(name) for name in _many(asked, "group_by")),
        only=_only(asked),
        bucket_seconds=seconds,
        limit=MOST_RESULTS + 1,
    )
    return UsagePage(query, first, max(0, buckets), end)


def _only(asked: Asked) -> dict[GroupBy, Sequence[str]]:
    for name in UNKNOWN:
        if _many(asked, f"{name}s"):
            raise _not_recorded(f"{name}s")
    return {field: _many(asked, name) for name, field in FILTERS.items() if _many(asked, name)}


def _group(name: str) -> GroupBy:
    if name in UNKNOWN:
        raise _not_recorded("group_by")
    if name not in GROUPS:
        known = ", ".join(GROUPS)
        raise InvalidRequest(f"'group_by' must be some of {known}.", param="group_by")
    return GROUPS[name]


def _not_recorded(param: str) -> InvalidRequest:
    names = " and ".join(UNKNOWN)
    return InvalidRequest(f"'{param}': {names} of an order are not recorded.", param=param)


def _page_start(asked: Asked, start: int) -> int:
    page = _one(asked, "page")
    if page is None:
        return start
    if not re.fullmatch(r"page_[0-9]{1,11}", page):
        raise InvalidRequest("'page' must be the 'next_page' of an answer.", param="page")
    return max(start, int(page.removeprefix("page_")))


def _limit(asked: Asked, usual: int, most: int) -> int:
    text = _one(asked, "limit") or str(usual)
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= most:
        raise InvalidRequest(f"'limit' must be 1 to {most}.", param="limit")
    return int(text)


def _seconds(asked: Asked, name: str) -> int | None:
    text = _one(asked, name)
    if text is not None and not re.fullmatch(r"[0-9]{1,11}", text):
        raise InvalidRequest(f"'{name}' must be whole seconds since the epoch.", param=name)
    return None if text is None else int(text)


def _one(asked: Asked, name: str) -> str | None:
    return next(iter(asked.get(name, ())), None)


def _many(asked: Asked, name: str) -> list[str]:
    return [*asked.get(name, ()), *asked.get(f"{name}[]", ())]


def _floor(seconds: int, step: int) -> int:
    return seconds - seconds % step


def _ceil(seconds: int, step: int) -> int:
    return -(-seconds // step) * step


def usage_body(page: UsagePage, found: Sequence[UsedBy]) -> UsagePageBody:
    """Whole buckets, as many as MOST_RESULTS lets in; InvalidRequest when not even one is."""
    starts = [page.first + number * page.width for number in range(page.buckets)]
    if len(found) > MOST_RESULTS:
        whole = [start for start in starts if start < (found[-1].start or 0)]
        if not whole:
            raise InvalidRequest(
                f"One bucket has more than {MOST_RESULTS} results: group it by less, or name "
                "'project_ids'.",
                param="group_by",
            )
        starts = whole
    results: dict[int, list[UsageResult]] = {start: [] for start in starts}
    for one in found:
        if one.start in results:
            results[one.start].append(_result(one))
    after = page.first + len(starts) * page.width
    more = after < page.end
    return {
        "object": "page",
        "data": [
            {"object": "bucket", "start_time": s, "end_time": s + page.width, "results": results[s]}
            for s in starts
        ],
        "has_more": more,
        "next_page": f"page_{after}" if more else None,
    }


def _result(one: UsedBy) -> UsageResult:
    return {
        "object": "organization.usage.images.result",
        "images": one.used.images,
        "num_model_requests": one.used.requests,
        "project_id": one.tenant,
        "user_id": None,
        "api_key_id": None,
        "model": one.model,
        "size": one.size,
        "source": one.source,
        "gpu_seconds": round(one.used.gpu_seconds, 3),
        "joules": known_joules(one.used),
    }


def known_joules(used: Used) -> float | None:
    """None where there is no counter."""
    return round(used.joules, 3) if used.joules else None


def tenants_query(asked: Asked, now: float) -> UsageQuery:
    """Of the last day, unless it says otherwise. Raises InvalidRequest."""
    end = _seconds(asked, "end_time")
    end = int(now) + 1 if end is None else end
    start = _seconds(asked, "start_time")
    start = end - DAY_SECONDS if start is None else start
    if end <= start:
        raise InvalidRequest("'end_time' must be after 'start_time'.", param="end_time")
    most = _one(asked, "order") or "gpu_seconds"
    if most not in ("gpu_seconds", "images"):
        raise InvalidRequest("'order' must be gpu_seconds or images.", param="order")
    models = _many(asked, "model")
    return UsageQuery(
        start=max(0, _floor(start, HOUR_SECONDS)),
        end=_ceil(end, HOUR_SECONDS),
        by=frozenset({"tenant"}),
        only={"model": models} if models else {},
        most="images" if most == "images" else "gpu_seconds",
        limit=_limit(asked, 20, 100),
    )


def of_all(query: UsageQuery) -> UsageQuery:
    """The same, of all tenants together."""
    return replace(query, by=frozenset())


def tenants_body(
    query: UsageQuery, found: Iterable[UsedBy], everything: Sequence[UsedBy]
) -> TenantsBody:
    """GET /v1/operator/tenants."""
    total = everything[0].used if everything else Used()
    return {
        "object": "list",
        "start_time": int(query.start),
        "end_time": int(query.end),
        "data": [
            {
                "tenant": one.tenant or "",
                "images": one.used.images,
                "requests": one.used.requests,
                "gpu_seconds": round(one.used.gpu_seconds, 3),
                "share": round(one.used.gpu_seconds / (total.gpu_seconds or 1.0), 4),
                "joules": known_joules(one.used),
            }
            for one in found
        ],
        "images": total.images,
        "gpu_seconds": round(total.gpu_seconds, 3),
        "joules": known_joules(total),
    }
