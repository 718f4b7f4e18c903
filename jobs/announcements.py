"""What a model says of itself in the ledger, so that gateways know it without its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

SILENT_SECONDS = 20.0
"""A model that was not announced for so long is away; its jobs wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One model of a lane. Kept as JSON: new fields have defaults, older versions ignore them."""

    lane: str
    name: str
    queue: str
    """Where its jobs wait; see queues.py."""
    aliases: tuple[str, ...] = ()
    """Other names that requests may give it."""
    family: str
    capabilities: Mapping[str, Any]
    """Of the family, in plain JSON; this layer does not read them."""
    guidance: float
    size: str
    """What `size: auto` means."""
    qualities: Mapping[str, int]
    """Passes of an image, by quality."""
    pass_seconds: float
    """Predicted GPU-seconds of one pass of one image: as its first decoder measured it, else as
    configured."""
    identity: str
    """Of the weights, as far as it is known without loading them."""
    max_pixels: int | None = None
    """Of the largest size that may be asked for; None: as gateways allow."""
    lora_tenants: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """LoRAs that not every tenant may use, and those that may."""
    start_seconds: float | None = None
    """Until the first decoder draws, where there is none because none was needed."""
    slots: int | None = None
    """Of one decoder replica."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """What a decoder measured at its start, for people; this layer does not read it."""

    def to_json(self) -> str:
        """Without what the table has columns for."""
        said = {name: one for name, one in asdict(self).items() if name not in _COLUMNS}
        return json.dumps(said, sort_keys=True)

    @classmethod
    def of_row(cls, lane: str, name: str, queue: str, said: str) -> Self:
        """As it was announced, without the fields of newer versions."""
        known = {key: one for key, one in json.loads(said).items() if key in _FIELDS}
        known["aliases"] = tuple(known.get("aliases", ()))
        return cls(lane=lane, name=name, queue=queue, **known)


def start_seconds_of(said: str) -> float | None:
    """Of an announcement as it is stored."""
    seconds: float | None = json.loads(said).get("start_seconds")
    return seconds


_FIELDS = frozenset(one.name for one in fields(Announcement))
_COLUMNS = frozenset({"lane", "name", "queue"})


@dataclass(frozen=True, slots=True)
class AnnouncedModel:
    """A model as the ledger knows it. Times are the ledger's."""

    announcement: Announcement
    announced_at: float
    """For the first time."""
    ready_at: float | None
    """Since when it draws; None: no decoder is ready, nor comes with the work."""
    seen_at: float
    """When it was announced last."""
    read_at: float

    @property
    def announced(self) -> bool:
        """Whether a dispatcher of it is there."""
        return self.read_at - self.seen_at < SILENT_SECONDS

    @property
    def available(self) -> bool:
        """Whether an order for it is drawn without waiting for the model itself."""
        return self.ready_at is not None and self.announced
