"""What crosses into and out of the engine: frozen facts about one image in flight.

No tensor library is imported here, so that a scheduler, a test or another process can hold these.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.releases import between_releases

Pixels = NDArray[np.uint8]
"""A picture: uint8 [height, width, 3], RGB; with a fourth channel, alpha, where a RenderSpec wants
it: RGB is the picture with its background then, see engine.cut_out."""


_NUMPY = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}
_NAMES = {dtype: name for name, dtype in _NUMPY.items()}


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """A tensor of any dtype that no library is needed to hold. See engine.tensors for torch."""

    dtype: str
    """As safetensors names it: F16, BF16, F32, I64, BOOL, U8, ..."""
    shape: tuple[int, ...]
    data: bytes
    """Its elements, row-major and little-endian."""

    @classmethod
    def from_numpy(cls, array: NDArray[Any]) -> TensorBytes:
        """A copy. TypeError for a dtype that is none of BOOL, U8, I64, F16, F32."""
        name = _NAMES.get(array.dtype)
        if name is None:
            raise TypeError(f"no tensor of {array.dtype}; there are {', '.join(_NUMPY)}")
        return cls(name, array.shape, array.tobytes())

    def numpy(self) -> NDArray[Any]:
        """A read-only view. TypeError for a dtype that is none of BOOL, U8, I64, F16, F32."""
        dtype = _NUMPY.get(self.dtype)
        if dtype is None:
            raise TypeError(f"numpy has no {self.dtype}; there are {', '.join(_NUMPY)}")
        return np.frombuffer(self.data, dtype).reshape(self.shape)


@between_releases
@dataclass(frozen=True, slots=True)
class Conditioning:
    """A prompt as the decoders of one family read it."""

    tensors: Mapping[str, TensorBytes]
    """By the names that the family's text encoders gave them."""
    digest: str
    """See PromptText.digest: equal ones are the same words, read by the same encoder. A decoder may
    keep by it what it has made of a prompt."""
    revised_prompt: str | None = None
    """What is drawn, in words; None in families that read the prompt as it is."""
    encoder: str = ""
    """PromptEncoder.model of the encoder that read it, where its decoders go by that; "" where they
    go by the tensors alone."""

    @classmethod
    def from_numpy(cls, digest: str, **arrays: NDArray[Any]) -> Conditioning:
        """Of arrays by their names; see TensorBytes.from_numpy."""
        tensors = {name: TensorBytes.from_numpy(array) for name, array in arrays.items()}
        return cls(tensors, digest)

    def numpy(self, name: str) -> NDArray[Any]:
        """The tensor of that name; see TensorBytes.numpy."""
        return self.tensors[name].numpy()

    @property
    def nbytes(self) -> int:
        """Of all its tensors."""
        return sum(len(tensor.data) for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a render needs to go on elsewhere: a token grid of 1-2 KB or latents of up to some MB,
    its pass number and seed."""

    model: str
    """Identity of (family, weights sha256, sampler version); another one starts again."""
    pass_no: int
    """Passes already done; equal to the plan's passes when only pixels are missing."""
    seed: int
    state: bytes

    def to_bytes(self) -> bytes:
        """Pack for the ledger: little-endian header, model name, state."""
        name = self.model.encode()
        return struct.pack("<HHQ", len(name), self.pass_no, self.seed) + name + self.state

    @classmethod
    def from_bytes(cls, packed: bytes) -> Checkpoint:
        """Unpack; ValueError when the bytes are too short to be a checkpoint."""
        head = struct.calcsize("<HHQ")
        if len(packed) < head:
            raise ValueError(f"checkpoint of {len(packed)} bytes is shorter than its header")
        length, pass_no, seed = struct.unpack_from("<HHQ", packed)
        if len(packed) < head + length:
            raise ValueError("checkpoint is cut off inside its model name")
        name = packed[head : head + length].decode()
        return cls(name, pass_no, seed, packed[head + length :])


@between_releases
@dataclass(frozen=True, slots=True)
class Source:
    """A picture that is changed in part."""

    pixels: Pixels
    """[height, width, 3] of the render's size."""
    redraw: NDArray[np.bool_]
    """[cells], row by row: those drawn anew; all others are locked, to the last code. Not read by
    families that draw pixels."""
    tokens: bytes | None = None
    """The packed final Checkpoint of that very picture, if it was drawn here. A family that cannot
    read it (another identity, cut off) falls back on the pixels."""
    mask: NDArray[np.uint8] | None = None
    """[height, width]: 255 is drawn anew, 0 is kept. Read by families that draw pixels; where there
    is none, they change the picture as a whole."""
    strength: float = 1.0
    """0..1: how far such a family goes away from the pixels."""


LARGEST_LORA_WEIGHT = 10.0
"""In either direction."""


@dataclass(frozen=True, slots=True)
class LoraUse:
    """One LoRA that a render is drawn with."""

    name: str
    """As the operator lists it."""
    weight: float = 1.0
    """1.0 is as trained; negative turns its effect around."""


@between_releases
@dataclass(frozen=True, slots=True)
class RenderSpec:
    """One image to draw."""

    render_id: str
    conditioning: Conditioning
    seed: int
    """0 <= seed < 2**63."""
    passes: int
    """In total; with a source, of the cells drawn anew. To diffusers, the scheduler's steps of a
    whole picture, see Decoder.plan."""
    guidance: float = 3.0
    """1.0 switches it off."""
    preview_after: tuple[int, ...] = ()
    """Pass numbers (1-based) after which a preview is wanted."""
    checkpoint: bytes | None = None
    """A packed Checkpoint to go on from, or None to begin."""
    source: Source | None = None
    """A picture to change in part, or None to draw a new one."""
    loras: tuple[LoraUse, ...] = ()
    """Added to the weights for this render alone, each name once; the order does not matter."""
    width: int | None = None
    height: int | None = None
    """Of the picture, in pixels; None is the family's own picture_size."""
    references: tuple[Pixels, ...] = ()
    """Pictures to look at, in order, each of its own size."""
    trace: str | None = None
    """W3C traceparent of its order; nothing to the engine."""
    transparent: bool = False
    """Pixels come with alpha."""
    alone: bool = False
    """Its first pass here, or its pixels if all passes are done, is the engine's only work from
    ACCEPTED on: what goes wrong before its next update is its own fault."""
    yields: bool = False
    """Held for a slot, it lets those that do not yield go before it."""


class UpdateKind(StrEnum):
    """What an update says. ACCEPTED or FULL is always the first; LEFT, DONE or FAILED the last.
    LEFT: its slot is needed, for another render or since memory is short; it goes on elsewhere."""

    ACCEPTED = "accepted"
    FULL = "full"
    PASS = "pass"
    LEFT = "left"
    DONE = "done"
    FAILED = "failed"


LAST = frozenset({UpdateKind.FULL, UpdateKind.LEFT, UpdateKind.DONE, UpdateKind.FAILED})
"""Nothing follows an update of these kinds."""


@between_releases
@dataclass(frozen=True, slots=True)
class RenderUpdate:
    """The news of one render; the last checkpoint received is where it goes on."""

    render_id: str
    kind: UpdateKind
    pass_no: int = 0
    """Passes done; with ACCEPTED, where it goes on (0 when it began anew)."""
    decoded: bool = False
    """All passes are done; only pixels are missing."""
    checkpoint: bytes | None = None
    """With PASS and LEFT, a packed Checkpoint after `pass_no` passes, where one was taken. The
    last pass has one; LEFT has none only when the render has to begin again."""
    preview: Pixels | None = None
    """With PASS and LEFT, where one was asked for."""
    pixels: Pixels | None = None
    """With DONE."""
    error: str | None = None
    """With FAILED, why."""
    pass_seconds: float = 0.0
    """With PASS and LEFT, how long the pass took for the whole batch of `batch_width` renders."""
    batch_width: int = 0
    cost_seconds: float = 0.0
    """With DONE, the GPU-seconds of all its passes; 0.0 for unknown, see cost.CostMeter."""
    gpu_seconds: float = 0.0
    """With PASS, LEFT and DONE, its share of all passes since it was accepted here."""
    joules: float = 0.0
    """As gpu_seconds; 0.0 where no counter measures them."""
    rejected: bool = False
    """With FAILED: the request itself cannot be drawn, so that trying again is of no use."""
    redrawn: str | None = None
    """With DONE, of a picture that was changed: the cells drawn anew, in hex as region.to_hex packs
    them; None where the family keeps no cells."""
    unread: str | None = None
    """With FULL, where it is no matter of room: why the family cannot read the conditioning. The
    prompt has to be encoded again."""
