"""The masked-token family: the embedded model. A render is a grid of codes, filled in over passes;
renders share the network only as far as neighbours cannot change a picture, to the last bit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine import sampling
from engine.arrange import layout_of, scene_of
from engine.capabilities import DEFAULT_WEIGHTS
from engine.cost import PassCost
from engine.decoder import DecodeState, OtherEncoder, Plan, RenderRejected, cells_to_draw
from engine.decoders.device import DTYPES, device_of
from engine.decoders.masked_model import MaskedModel
from engine.decoders.memory import translated
from engine.models.codec import to_latents
from engine.models.scene_transformer import Sketch
from engine.precision import AUTO, precision_of
from engine.region import Region, scattered
from engine.render import Checkpoint, Conditioning, Pixels, RenderSpec, Source
from engine.scene_changes import Planes, changed_cells

logger = logging.getLogger(__name__)

MASKED = 255
GUIDANCE_MAX = 20.0
CPU_COST = {
    "float32": PassCost(fixed_seconds=0.004, row_seconds=0.016),
    "bfloat16": PassCost(fixed_seconds=0.005, row_seconds=0.005),
}
"""By precision, as measured on one core; a row is a pass of two, with and without the prompt."""

Codes = NDArray[np.uint8]
"""uint8 [cells, channels]: levels, or MASKED in every channel of a cell."""


@dataclass(slots=True)
class MaskedState:
    """One image of this family."""

    spec: RenderSpec
    pass_no: int
    redrawn: Region
    """Cells that are filled in; the others were there from the beginning."""
    codes: Codes
    told: Sketch
    """See MaskedModel.told; on the decoder's device."""
    expected: Tensor | None = None
    """float32 [cells, channels]: the mean codes that the last pass here predicted."""

    @property
    def drawn(self) -> int:
        """How many cells are filled in."""
        return int(self.redrawn.sum())


class MaskedDecoder:
    """weights: a folder as `make train` writes it. row_chunk: most renders that go through the
    network together. threads: torch's number of threads in this process, 0 leaves it alone.
    device: "cpu", "cuda", or "auto", which is the GPU that this process was given, if any; codes
    are drawn on the CPU either way. dtype: "float32", "bfloat16", or "auto", see precision_of; a
    checkpoint of another one is not read, for its passes would have drawn something else.

    A picture is independent of its neighbours to the last bit. On a GPU, every batch is filled up
    to `row_chunk`, because kernels are chosen by width. On a CPU a width is trusted once it has
    given exactly what the same renders give alone; another width is never used again.
    """

    def __init__(
        self,
        weights: Path | str = DEFAULT_WEIGHTS,
        *,
        row_chunk: int = 8,
        threads: int = 0,
        device: str = "auto",
        dtype: str = AUTO,
        model: MaskedModel | None = None,
    ) -> None:
        """Load `weights`, or draw with a `model` that is loaded already, which is changed. Raises
        WeightsError; ValueError naming a wrong option."""
        if threads:
            torch.set_num_threads(threads)
        loaded = MaskedModel.load(Path(weights or DEFAULT_WEIGHTS)) if model is None else model
        self._device = device_of(device)
        self.precision = precision_of(dtype, self._device.type)
        loaded.compute_in(DTYPES[self.precision])
        loaded.transformer.to(self._device)
        loaded.codec.to(self._device)
        self.networks = loaded
        self._row_chunk = row_chunk
        self._trusted = {1: True}
        self._weights = f"masked:{loaded.identity}:"
        self.model = f"{self._weights}{sampling.SAMPLER}"
        if self.precision != "float32":
            self.model += f":{self.precision}"
        self.picture_size = (loaded.codec.config.size, loaded.codec.config.size)
        config = loaded.transformer.config
        self._shape = (config.cells, config.channels)
        self._levels = config.levels

    @property
    def trusted_widths(self) -> frozenset[int]:
        """How many renders may go through the network together, as far as that was tried here."""
        return frozenset(width for width, trusted in self._trusted.items() if trusted)

    def plan(self, spec: RenderSpec) -> Plan:
        cells_to_draw(spec, self.picture_size, self._shape[0])
        if not 0 < spec.guidance <= GUIDANCE_MAX:
            raise RenderRejected(
                f"guidance must be above 0 and at most {GUIDANCE_MAX}, got {spec.guidance}"
            )
        if spec.transparent and not self.networks.codec.config.alpha:
            raise RenderRejected("transparent must be false: these weights draw no alpha")
        self._check_words(spec.conditioning)
        seconds = CPU_COST[self.precision].seconds(1)
        return Plan(spec.passes, batch_key="masked", pass_seconds=seconds)

    def _check_words(self, said: Conditioning) -> None:
        """OtherEncoder: the rows of things that it names are not those of the memory here."""
        own = self.networks.encoder
        if said.encoder not in ("", own):
            raise OtherEncoder(f"conditioning is of {said.encoder}, and {own} is read here")
        try:
            scene_of(said)
        except (LookupError, ValueError) as error:
            raise OtherEncoder(f"conditioning is of another encoder: {error!r}") from None

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> MaskedState:
        self.plan(spec)
        told = self._told(spec)
        codes = self._at_first(spec, told)
        redrawn = codes[:, 0] == MASKED
        if checkpoint is None:
            return MaskedState(spec, 0, redrawn, codes, told)
        codes = self._unpack(checkpoint, spec.passes, codes)
        return MaskedState(spec, checkpoint.pass_no, redrawn, codes, told)

    def _at_first(self, spec: RenderSpec, told: Sketch) -> Codes:
        """The codes before the first pass: all masked, but for what a source keeps. Of a picture
        that is changed as a whole, what the new words leave as it is."""
        source = spec.source
        if source is None:
            return np.full(self._shape, MASKED, np.uint8)
        codes, redraw = self._stored(source), source.redraw
        if codes is None:
            codes = self._encoded(source.pixels)
        if source.mask is None and source.strength < 1:
            core = self._changed(spec, codes, told)
            redraw = scattered(len(codes), source.strength, spec.seed, core)
        codes[redraw] = MASKED
        return codes

    @torch.inference_mode()
    def _changed(self, spec: RenderSpec, codes: Codes, told: Sketch) -> Region | None:
        """What the new words draw otherwise, judged by a pass over a wholly masked picture; None
        for a codec that cannot tell things from backgrounds."""
        if not self.networks.codec.config.alpha:
            return None
        nothing = np.full(self._shape, MASKED, np.uint8)
        blank = MaskedState(spec, 0, np.ones(len(nothing), np.bool_), nothing, told)
        prompted = self._logits([blank])[0, 0]
        expected = sampling.expected_codes(prompted, 0.0)
        before, after = self._planes(torch.from_numpy(codes)), self._planes(expected)
        return changed_cells(before, after, layout_of(spec, self.networks.memory.turns))

    def _planes(self, codes: Tensor) -> Planes:
        """codes, or means of codes, [cells, channels] -> [size, size, 4], 0 to 1."""
        picture = self._decoded(to_latents(codes, self._levels))
        return cast(Planes, ((picture + 1) / 2).clamp(0, 1).permute(1, 2, 0).cpu().numpy())

    def _stored(self, source: Source) -> Codes | None:
        """The codes that it was drawn from with these weights, in any precision."""
        if source.tokens is not None:
            try:
                final = Checkpoint.from_bytes(source.tokens)
                codes = self._codes(final)
            except ValueError as error:
                logger.warning("a source is read from its pixels: %s", error)
            else:
                if final.model.startswith(self._weights) and not (codes == MASKED).any():
                    return codes
        return None

    @torch.inference_mode()
    def _encoded(self, pixels: Pixels) -> Codes:
        picture = torch.from_numpy(pixels.copy()).to(self._device).permute(2, 0, 1)
        codes = self.networks.codec.encode(picture.unsqueeze(0).float() / 127.5 - 1)
        return cast(Codes, codes[0].cpu().numpy())

    @torch.inference_mode()
    def _told(self, spec: RenderSpec) -> Sketch:
        return self.networks.told(spec, self._device)

    def _codes(self, checkpoint: Checkpoint) -> Codes:
        """ValueError when these are no codes of this family."""
        codes = np.frombuffer(checkpoint.state, np.uint8).copy()
        if codes.size != self._shape[0] * self._shape[1]:
            raise ValueError(f"checkpoint holds {codes.size} codes, not {np.prod(self._shape)}")
        codes = codes.reshape(self._shape)
        hidden = codes == MASKED
        whole_cells = (hidden.all(axis=1) == hidden.any(axis=1)).all()
        if not whole_cells or not (codes[~hidden] < self._levels).all():
            raise ValueError("checkpoint holds codes of another kind")
        return codes

    def _unpack(self, checkpoint: Checkpoint, passes: int, at_first: Codes) -> Codes:
        """ValueError when these cannot be the codes after that many of the passes."""
        codes = self._codes(checkpoint)
        to_draw = at_first[:, 0] == MASKED
        left = sampling.cells_masked_after(checkpoint.pass_no, passes, int(to_draw.sum()))
        if (codes[:, 0] == MASKED).sum() != left:
            raise ValueError(f"checkpoint is not one after pass {checkpoint.pass_no} of {passes}")
        if not (codes[~to_draw] == at_first[~to_draw]).all():
            raise ValueError("checkpoint is not one of this source")
        return codes

    @translated("fewer pictures at a time")
    @torch.inference_mode()
    def step(self, batch: Sequence[DecodeState]) -> None:
        for start in range(0, len(batch), self._row_chunk):
            rows = [_mine(render) for render in batch[start : start + self._row_chunk]]
            for render, (prompted, unprompted) in zip(rows, self._logits(rows), strict=True):
                self._fill_in(render, prompted, unprompted)

    def _logits(self, rows: Sequence[MaskedState]) -> Tensor:
        """[rows, 2, cells, channels, levels]: of each row as it is now, with and without prompt."""
        width = len(rows)
        if self._device.type == "cuda":
            return self._network([*rows, *[rows[-1]] * (self._row_chunk - width)])[:width]
        if self._trusted.get(width):
            return self._network(rows)
        alone = torch.cat([self._network([row]) for row in rows])
        if width not in self._trusted:
            self._trusted[width] = torch.equal(alone, self._network(rows))
        return alone

    def _network(self, rows: Sequence[MaskedState]) -> Tensor:
        codes = torch.from_numpy(np.stack([r.codes for r in rows])).repeat_interleave(2, dim=0)
        masked = codes[:, :, 0] == MASKED
        both = self.networks.fill(
            to_latents(codes, self._levels).to(self._device),
            masked.to(self._device),
            [r.told for r in rows],
        )
        logits: Tensor = both.float().cpu().view(len(rows), 2, *both.shape[1:])
        return logits

    def _fill_in(self, render: MaskedState, prompted: Tensor, unprompted: Tensor) -> None:
        """Draw codes for masked cells and keep those that are sure enough; one row's logits."""
        guidance = render.spec.guidance
        logits = guidance * prompted + (1 - guidance) * unprompted
        done, passes = render.pass_no + 1, render.spec.passes
        noise = sampling.pass_noise(render.spec.seed, done, *self._shape)
        for_codes, for_order = (torch.from_numpy(part) for part in noise)
        codes, confidence = sampling.draw_codes(logits, for_codes)
        masked = torch.from_numpy(render.codes[:, 0] == MASKED)
        keep = sampling.cells_masked_after(done, passes, render.drawn)
        chosen = sampling.most_confident(confidence, masked, for_order, keep, done / passes)
        render.codes[chosen.numpy()] = codes[chosen].to(torch.uint8).numpy()
        render.expected = sampling.expected_codes(prompted, keep / render.drawn)
        render.pass_no = done

    @torch.inference_mode()
    def preview(self, render: DecodeState) -> Pixels:
        mine = _mine(render)
        expected = mine.expected
        if expected is None:  # just restored: ask again what the masked cells will be
            share = float((mine.codes[:, 0] == MASKED).sum()) / mine.drawn
            expected = sampling.expected_codes(self._logits([mine])[0, 0], share)
        codes = torch.from_numpy(mine.codes)
        soft = torch.where(codes == MASKED, expected, codes.float())
        return self._draw(to_latents(soft, self._levels), mine.spec)

    def checkpoint(self, render: DecodeState) -> Checkpoint:
        mine = _mine(render)
        return Checkpoint(self.model, mine.pass_no, mine.spec.seed, mine.codes.tobytes())

    @translated("fewer pictures at a time")
    @torch.inference_mode()
    def finish(self, render: DecodeState) -> Pixels:
        mine = _mine(render)
        return self._draw(to_latents(torch.from_numpy(mine.codes), self._levels), mine.spec)

    def drop(self, render: DecodeState) -> None:
        """Nothing but the engine holds it."""

    def _draw(self, latents: Tensor, spec: RenderSpec) -> Pixels:
        """latents [cells, channels] -> uint8 [size, size, 3], or 4 with alpha."""
        picture = self._decoded(latents)[: 4 if spec.transparent else 3]
        scaled = ((picture + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return cast(Pixels, scaled.permute(1, 2, 0).contiguous().cpu().numpy())

    def _decoded(self, latents: Tensor) -> Tensor:
        """latents [cells, channels] -> [planes, size, size], about -1 to 1."""
        pictures: Tensor = self.networks.codec.decoder(latents.unsqueeze(0).to(self._device))
        return pictures[0]


def _mine(render: DecodeState) -> MaskedState:
    if not isinstance(render, MaskedState):
        raise TypeError(f"not a render of the masked family: {render!r}")
    return render
