"""What was asked, validated once at the edge; nothing downstream validates it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["tenant", "operator"]
"""What a key or token may do: order and see its own, or operate the lane as well."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """An opaque id, and the tier that says how its requests are served."""

    id: str
    tier: str
    role: Role = "tenant"


BATCH_TIER = "batch"
"""Whose share of a lane batches are drawn with: what no other tier wants. No tenant is in it."""
REFERENCE_PICTURES = 4
"""As many pixels as so many whole pictures all references of a request have together, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """What an edit goes on from, prepared at the edge: a canvas and a small picture to change, or
    references to look at. Their blobs are those of one of the tenant's files."""

    canvas: str | None = None
    """Key of an RGBA PNG of the request's size. Where alpha is 255 the picture stays as it is; what
    is drawn replaces it where alpha is 0, and is mixed in between."""
    small: str | None = None
    """Key of a PNG of it in the size that the decoder draws: RGB, or with a mask RGBA, in which
    what is opaque stays."""
    redraw: str
    """The cells drawn anew, a bit each, row by row, packed big-endian, in hex."""
    tokens: str | None = None
    """The parent's final checkpoint in base64, where it is known."""
    parent: str | None = None
    """Id of the image that it goes on from; None for an upload."""
    images: int = 1
    """How many came in."""
    strength: float = 1.0
    """0..1: how far families that draw pixels go away from the picture."""
    steps: int = 0
    """Passes of a whole picture of such a family, of which `strength` says how many are done; 0 in
    families that draw cells."""
    original: str | None = None
    """Key of the file that it goes on from, where that says where it came from."""
    references: tuple[str, ...] = ()
    """Keys of RGB PNGs that the model looks at, in order, each of its own size."""

    @property
    def blobs(self) -> tuple[str, ...]:
        """All keys."""
        single = (self.canvas, self.small, self.original)
        return (*(key for key in single if key is not None), *self.references)

    @property
    def pass_weight(self) -> int:
        """Of a pass, in those of one that looks at nothing: references are about as much work as
        what is drawn."""
        return 1 + min(len(self.references), REFERENCE_PICTURES)


@dataclass(frozen=True, slots=True)
class WeightedLora:
    """One LoRA of the model, as its operator names it."""

    name: str
    weight: float = 1.0
    """1.0 is as trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseOrder:
    """That an order came through POST /v1/responses, and what its answer says of it again."""

    background: bool = False
    """Its client waits on no connection, and asks for the response by its id."""
    stored: bool = True
    """It can be asked for by its id."""
    previous: str | None = None
    """Id of the response that it goes on from."""
    said: str = "{}"
    """JSON of what was sent and is repeated; opaque here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One request for n images.

    Stored without what is as by default: a default that was released stays, and so do the names and
    types. A new field has a default; older versions ignore it. What they must not ignore needs a
    required field, which makes older versions pass the job over.
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
    """Of each image; of an edit as many as its source needs."""
    guidance: float
    """1.0 switches it off."""
    seed: int
    """Image i is drawn with seed + i."""
    output_format: str = "png"
    output_compression: int = 100
    background: str = "opaque"
    moderation: str = "auto"
    partial_images: int = 0
    user: str | None = None
    cost_seconds: float = 1.0
    """Predicted GPU-seconds of all images together, the fair queue's currency."""
    watched: bool = True
    """A client waits on its connection; the job is cancelled when its watch is not renewed."""
    deadline_seconds: float = 86_400.0
    """In the queue, after which it expires unless some passes are done."""
    idempotency_key: str | None = None
    body_hash: str = ""
    """Hex digest of the request body, for re-attaching a client's retry."""
    retry_count: int = 0
    source: SourceImage | None = None
    """What an edit goes on from."""
    revised: bool = False
    """The prompt is not the client's own words."""
    negative_prompt: str | None = None
    """What the picture should not show; never empty."""
    loras: tuple[WeightedLora, ...] = ()
    """Each name once."""
    steps: int | None = None
    """Passes of a whole picture that were asked for in place of a quality."""
    own_guidance: float | None = None
    """Guidance that was asked for in place of the model's."""
    trace: str | None = None
    """W3C `traceparent` of the request that ordered it; None where it is not traced."""
    response: ResponseOrder | None = None
    """None for what did not come through POST /v1/responses."""
    in_batch: bool = False
    """A line of a batch: counts in no day's images, and gives way to all other work."""

    @property
    def share_tier(self) -> str:
        """Whose share of the lane it is drawn with. `tier` says how it is screened."""
        return BATCH_TIER if self.in_batch else self.tier

    @property
    def decoder_passes(self) -> int:
        """What decoders are asked for: of an edit that draws pixels, those of a whole picture."""
        steps = self.source.steps if self.source is not None else 0
        return steps or self.passes

    def image_seed(self, index: int) -> int:
        """The seed of image `index`, 0 <= index < n."""
        return (self.seed + index) % 2**63


def preview_passes(passes: int, wanted: int) -> tuple[int, ...]:
    """Pass numbers for `wanted` previews, never the last pass: in the middle of as many equal
    parts, so that something is seen early."""
    spread = (passes * (2 * i + 1) // (2 * wanted) for i in range(wanted))
    return tuple(sorted({min(max(number, 1), passes - 1) for number in spread if passes > 1}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Enquiry:
    """What is known of an order that is not submitted yet."""

    tenant: Tenant
    lane: str | None
    """Whose queue it would join; None: it is no order."""
    key: str | None = None
    """Its Idempotency-Key."""
    retry: bool = False
    """It says that it is one."""
    images: int = 1
    """At least."""
    body_hash: str | None = None
    """As of ImageRequest; None before the body was read."""
