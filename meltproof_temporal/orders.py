"""What activities are given and what they return: the only types of ours in a workflow's history.

Pictures are named and never contained: a history is read whole at every replay, and is limited to
50 MB. Nothing but dataclasses is imported, so that workflows may import this module. Annotations
are types and no texts: Temporal's sandbox of workflows cannot look names of this module up.
"""

from dataclasses import MISSING, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Fields of every order; what is None is left to the service. docs/http-api.md says what each
    accepts."""

    model: str | None = None
    negative_prompt: str | None = None
    n: int = 1
    size: str | None = None
    quality: str | None = None
    seed: int | None = None
    output_format: str | None = None
    partial_images: int = 0
    """Previews that are drawn and kept for a while; heartbeats name them."""
    safety_identifier: str | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """Any other field of the API, such as `steps`, `guidance` or `loras`."""


@dataclass(frozen=True, kw_only=True)
class Generate(Looks):
    """A picture from words."""

    prompt: str


@dataclass(frozen=True, kw_only=True)
class Edit(Looks):
    """A picture from others. images, mask, markup: ids of files (`file-...`) or of pictures that
    were drawn here (`img_...`), or http(s) URLs where the operator allows them; no data: URLs."""

    prompt: str
    images: list[str]
    mask: str | None = None
    markup: str | None = None
    strength: float | None = None


@dataclass(frozen=True, kw_only=True)
class Tweak(Looks):
    """Goes on from a picture that was drawn here (`img_...`). prompt: other words. delta: words
    that are added. mask: the id of a file. What is not said stays as it was; n is one."""

    picture: str
    prompt: str | None = None
    delta: str | None = None
    mask: str | None = None
    strength: float | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Many orders that may take a day. Either orders, up to about 2 MB of them, since they stand in
    the history, or input_file_id: of a file of purpose `batch` that was sent before. endpoint: of
    its lines. metadata: up to 15 texts by name. poll_seconds: how often it is asked for."""

    orders: list[Generate] = field(default_factory=list)
    input_file_id: str | None = None
    endpoint: str = "/v1/images/generations"
    metadata: dict[str, str] = field(default_factory=dict)
    poll_seconds: float = 10.0


@dataclass(frozen=True)
class Refusal:
    """Why there is no picture: `moderation_blocked`, `render_failed`, ..."""

    code: str
    message: str


@dataclass(frozen=True)
class Picture:
    """One picture of an order. url: where it is read with the service's key, as long as it is kept
    there; None if it was not drawn, and `refusal` says why."""

    id: str
    index: int
    seed: int
    url: str | None
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Drawn:
    """What became of an order of which at least one picture was drawn."""

    job_id: str
    model: str
    pictures: list[Picture]

    @property
    def drawn(self) -> list[Picture]:
        """Without those that were blocked or failed."""
        return [picture for picture in self.pictures if picture.url is not None]


@dataclass(frozen=True)
class Progress:
    """The details of a heartbeat. previews: `index.pass` of every preview that is there, as in the
    ids of `GET /v1/jobs/{id}/events`."""

    job_id: str
    state: str
    passes_done: int
    passes_total: int
    previews: list[str]


@dataclass(frozen=True)
class Batched:
    """What became of a batch. status: `completed`, or `expired` after a day with what was drawn.
    Results are lines of these files (`GET /v1/files/{id}/content`), by the place of their order."""

    batch_id: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    completed: int
    failed: int


@dataclass(frozen=True)
class BatchProgress:
    """The details of a batch's heartbeat: lines that are done, that failed, all."""

    batch_id: str
    status: str
    completed: int
    failed: int
    total: int


def spoken(order: Looks) -> dict[str, Any]:
    """The fields that were set. A field that a later release adds changes no order of this one,
    whose Idempotency-Key is made of them."""
    said = {one.name: getattr(order, one.name) for one in fields(order) if one.name != "more"}
    unsaid = {one.name: one.default for one in fields(order) if one.default is not MISSING}
    kept = {name: value for name, value in said.items() if value != unsaid.get(name, MISSING)}
    return {**kept, **order.more}
