"""What was asked, validated once at the edge; nothing downstream validates it again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks: an opaque id and the tier that says how they are served."""

    id: str
    tier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One request for n images.

    passes: per image. guidance: 1.0 switches it off. seed: image i is drawn with seed + i.
    cost_seconds: predicted GPU-seconds of all images together, the fair queue's currency.
    watched: True when somebody waits on the connection; the job is cancelled when nobody renews
    its watch. deadline_seconds: after that long in the queue it expires.
    body_hash: hex digest of the request body, for re-attaching a client's retry.
    """

    lane: str
    tenant: str
    tier: str
    model: str
    prompt: str
    n: int
    width: int
    height: int
    quality: str
    passes: int
    guidance: float
    seed: int
    output_format: str = "png"
    output_compression: int = 100
    background: str = "opaque"
    moderation: str = "auto"
    partial_images: int = 0
    user: str | None = None
    cost_seconds: float = 1.0
    watched: bool = True
    deadline_seconds: float = 86_400.0
    idempotency_key: str | None = None
    body_hash: str = ""
    retry_count: int = 0

    def image_seed(self, index: int) -> int:
        """The seed of image `index`, 0 <= index < n."""
        return (self.seed + index) % 2**63
