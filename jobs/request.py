"""What was asked, validated once at the edge; nothing downstream validates it again."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Tenant:
    """An opaque id, and the tier that says how its requests are served."""

    id: str
    tier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """What an edit goes on from, prepared at the edge; blobs of it live in the tenant's files.

    canvas: key of an RGBA PNG of the request's width and height. Where alpha is 255 the picture
    stays as it is; what is drawn replaces it where alpha is 0, and is mixed in between.
    small: key of an RGB PNG of it in the size that the decoder draws.
    redraw: the cells drawn anew, a bit each, row by row, packed big-endian, in hex.
    tokens: the parent's final checkpoint in base64, where it is known.
    parent: id of the image that it goes on from; None for an upload. images: how many came in.
    """

    canvas: str
    small: str
    redraw: str
    tokens: str | None = None
    parent: str | None = None
    images: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One request for n images.

    Stored without what is as by default: a default that was released stays, and so do the names and
    types. A new field has a default; older versions ignore it. What they must not ignore needs a
    required field, which makes older versions pass the job over.

    passes: per image. guidance: 1.0 switches it off. seed: image i is drawn with seed + i.
    cost_seconds: predicted GPU-seconds of all images together, the fair queue's currency.
    watched: True when somebody waits on the connection; the job is cancelled when nobody renews
    its watch. deadline_seconds: after that long in the queue it expires, unless
    something of it is done.
    body_hash: hex digest of what the request body says, for re-attaching a client's retry.
    raw_hash: of a retry that of its bytes, which is what older versions stored; itself not stored.
    source: what an edit goes on from; its passes are as many as that needs. revised: the prompt is
    not the client's own words.
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
    source: SourceImage | None = None
    revised: bool = False
    raw_hash: str = field(default="", compare=False)

    def image_seed(self, index: int) -> int:
        """The seed of image `index`, 0 <= index < n."""
        return (self.seed + index) % 2**63


def preview_passes(passes: int, wanted: int) -> tuple[int, ...]:
    """Evenly spread pass numbers for `wanted` previews, never the last pass."""
    spread = (round(passes * (i + 1) / (wanted + 1)) for i in range(wanted))
    return tuple(sorted({min(max(number, 1), passes - 1) for number in spread if passes > 1}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Enquiry:
    """What is known of an order that is not submitted yet. lane: whose queue it would join; None:
    none, it is no order. key: its Idempotency-Key. retry: it says that it is one. images: at least
    so many. body_hash, raw_hash: as of ImageRequest, None and empty before the body was read."""

    tenant: Tenant
    lane: str | None
    key: str | None = None
    retry: bool = False
    images: int = 1
    body_hash: str | None = None
    raw_hash: str = ""
