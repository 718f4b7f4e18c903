"""The janus family's decoder. A render is the image tokens drawn so far; a pass draws its share of
them, one by one, in step with the other renders of the batch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.cost import PassCost
from engine.decoder import (
    DecodeState,
    OtherEncoder,
    Plan,
    RenderRejected,
    RendersBroken,
    cells_to_draw,
)
from engine.decoders.device import device_of, dtype_of
from engine.decoders.device_memory import device_memory
from engine.decoders.janus.cache import Row, TokenPlaces
from engine.decoders.janus.folder import JanusFolder
from engine.decoders.janus.network import JanusNetwork
from engine.decoders.janus.prompts import PROMPT_TOKENS, input_ids
from engine.decoders.janus.sampling import SAMPLER, drawn_after, uniforms
from engine.decoders.janus.steps import JanusState, TokenSteps
from engine.decoders.memory import translated
from engine.footprint import DoesNotFit
from engine.measuring import Memory, WeightsLoad
from engine.model_directory.capacity import in_units
from engine.render import Checkpoint, Conditioning, Pixels, RenderSpec

GUIDANCE_MAX = 20.0
TRIAL_GUIDANCE = 5.0
CPU_TOKENS = 4
"""Fewest tokens of a forward on a CPU, the rest being padding: fewer are multiplied by other
kernels, whose sums differ in the last bits, and cost as much."""
TOKEN_COST = PassCost(fixed_seconds=0.03, row_seconds=0.005)
"""Of one token of every render: believed until measured."""
WHAT_FITS = "no memory is left for another render; guidance 1.0 needs half as much"


class JanusDecoder:
    """weights: a checkpoint's folder, of safetensors. slots: how many renders there is room for; an
    engine with more of them goes on with fewer. temperature: of the tokens' softmax; 0 takes the
    likeliest, whatever the seed. dtype: of the language model, "float32", "bfloat16", "float16" or
    "auto", which is bfloat16 on a GPU. threads: torch's number of threads in this process, 0 leaves
    it alone. memory_gib: what the process may hold on its device; 0.0: what is free there.
    measure: see Measurable. device:
    "cpu", "cuda", or "auto", which is the GPU that this process was given, if
    any.

    A picture is independent of its neighbours to the last bit, and of whether it was interrupted.
    On a GPU every forward is filled up to the same number of tokens, because kernels are chosen by
    it; on a CPU, to CPU_TOKENS.
    """

    def __init__(  # noqa: PLR0913 - all but the first have a default
        self,
        weights: Path | str,
        *,
        slots: int = 8,
        temperature: float = 1.0,
        dtype: str = "auto",
        memory_gib: float = 0.0,
        measure: bool = True,
        threads: int = 0,
        device: str = "auto",
    ) -> None:
        """ValueError or OSError for a folder or an option that cannot be used, DoesNotFit for more
        slots than there is room for."""
        placed = device_of(device)
        tensors = dtype_of(dtype, placed)
        if slots < 1:
            raise ValueError(f"slots must be at least 1, got {slots}")
        if not temperature >= 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}")
        if threads:
            torch.set_num_threads(threads)
        began = time.perf_counter()
        folder = JanusFolder.open(Path(weights))
        self.model = f"janus:{folder.directory.digest()[:16]}:{SAMPLER}:{float(temperature)}"
        self.picture_size = (folder.size, folder.size)
        self.network = JanusNetwork(folder, placed, tensors)
        files = sum(path.stat().st_size for path in folder.path.glob("*.safetensors"))
        self.load = WeightsLoad(files, time.perf_counter() - began)
        self.memory = device_memory(placed, memory_gib)
        self.measure = measure
        self.fixed_width: int | None = slots
        self.trial_pictures = 1 / folder.cells
        self._token_cost = TOKEN_COST
        self._cells = folder.cells
        self._temperature = temperature
        on_gpu = placed.type == "cuda"
        self._least_tokens = 2 * slots if on_gpu else CPU_TOKENS
        width = PROMPT_TOKENS + folder.cells + self._least_tokens
        self._most_tokens = 2 * slots if on_gpu else width
        _check_room(self.memory, slots, 2 * self.network.row_bytes(width))
        self._cache = self.network.cache(max(2 * slots, self._least_tokens), width)

    def plan(self, spec: RenderSpec) -> Plan:
        if spec.source is not None:
            raise RenderRejected("source must be empty: this model changes no pictures")
        cells_to_draw(spec, self.picture_size, self._cells)
        if not 0 < spec.guidance <= GUIDANCE_MAX:
            raise RenderRejected(
                f"guidance must be above 0 and at most {GUIDANCE_MAX}, got {spec.guidance}"
            )
        if max(input_ids(spec.conditioning)) >= self.network.vocabulary:
            raise OtherEncoder("prompt must be read by the encoder of this very checkpoint")
        tokens = drawn_after(1, spec.passes, self._cells)
        return Plan(spec.passes, "janus", pass_seconds=self._token_cost.seconds(1) * tokens)

    @torch.inference_mode()
    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> JanusState:
        self.plan(spec)
        render = JanusState(spec, 0, [], uniforms(spec.seed, self._cells))
        if checkpoint is not None:
            render.tokens = self._unpack(checkpoint, spec.passes)
            render.pass_no = checkpoint.pass_no
        if render.pass_no < spec.passes:
            try:
                with translated(WHAT_FITS):
                    self._read_prompts(render)
            except BaseException:
                self.drop(render)
                raise
        return render

    def _read_prompts(self, render: JanusState) -> None:
        """Into the cache, with all tokens but the last one: the next pass begins with that."""
        ids = input_ids(render.spec.conditioning)
        folder = self.network.folder
        prompts = [ids]
        if render.spec.guidance != 1.0:
            kept = (folder.bos, folder.boi)
            prompts.append([each if each in kept else folder.pad for each in ids])
        tokens = [self.network.begin, *render.tokens][:-1]
        drawn = self.network.embeddings[tokens]
        for prompt in prompts:
            row = self._cache.take()
            render.rows += (row,)
            self._read(row, torch.cat((self.network.words(prompt[:-1]), drawn)))

    def _read(self, row: Row, embeddings: Tensor) -> None:
        """Into one row; embeddings [tokens, hidden]. Padding is written behind them, where it is
        overwritten before it is read."""
        device = self.network.device
        for piece in torch.split(embeddings, self._most_tokens):
            padding = max(0, self._least_tokens - len(piece))
            padded = torch.cat((piece, piece[-1:].expand(padding, -1)))
            rows = torch.full((len(padded),), row.index, device=device)
            at = torch.arange(row.position, row.position + len(padded), device=device)
            only = slice(row.index, row.index + 1)
            reach = row.position + len(padded) - 1
            self.network.read(padded, TokenPlaces(self._cache, rows, at, only, reach))
            row.position += len(piece)

    def _unpack(self, checkpoint: Checkpoint, passes: int) -> list[int]:
        """ValueError when these cannot be the tokens after that many of the passes."""
        tokens = np.frombuffer(checkpoint.state, "<u2")
        if len(tokens) != drawn_after(checkpoint.pass_no, passes, self._cells):
            raise ValueError(f"checkpoint is not one after pass {checkpoint.pass_no} of {passes}")
        if (tokens >= self.network.folder.codebook).any():
            raise ValueError("checkpoint holds tokens of another model")
        return [int(token) for token in tokens]

    @torch.inference_mode()
    def step(self, batch: Sequence[DecodeState]) -> None:
        renders = [_mine(render) for render in batch]
        broken: list[JanusState] = []
        with translated(WHAT_FITS):
            while left := [render for render in renders if self._due(render)]:
                steps = TokenSteps(self.network, self._cache, left, self._least_tokens)
                broken += steps.draw(min(map(self._due, left)), self._temperature)
        for render in renders:
            render.pass_no += 1
            if render.pass_no == render.spec.passes:
                self.drop(render)
        if broken:
            raise RendersBroken(broken, "a token's logits are no numbers")

    def _due(self, render: JanusState) -> int:
        """How many tokens it still draws in this pass."""
        after = drawn_after(render.pass_no + 1, render.spec.passes, self._cells)
        return after - len(render.tokens)

    def preview(self, render: DecodeState) -> Pixels:
        return self.finish(render)

    def checkpoint(self, render: DecodeState) -> Checkpoint:
        mine = _mine(render)
        tokens = np.array(mine.tokens, "<u2").tobytes()
        return Checkpoint(self.model, mine.pass_no, mine.spec.seed, tokens)

    def finish(self, render: DecodeState) -> Pixels:
        with translated("the picture is larger than the memory beside the weights"):
            return self.network.picture(_mine(render).tokens)

    def trial(self, number: int) -> RenderSpec:
        """See Measurable: a pass draws one token."""
        ids = np.full(PROMPT_TOKENS, self.network.folder.pad, "<i8")
        told = Conditioning.from_numpy(f"trial{number}", input_ids=ids)
        return RenderSpec(f"trial{number}", told, number, self._cells, TRIAL_GUIDANCE)

    def adopt(self, width: int, cost: PassCost) -> None:
        """See Measurable: all renders share every step, whatever the width."""
        self._token_cost = cost

    def pixels_now(self, render: DecodeState) -> Pixels:
        """See Measurable."""
        return self.finish(render)

    def drop(self, render: DecodeState) -> None:
        mine = _mine(render)
        for row in mine.rows:
            self._cache.release(row)
        mine.rows = ()


def _check_room(memory: Memory, slots: int, slot_bytes: int) -> None:
    """For the keys and values of all slots. DoesNotFit."""
    free = memory.usable() - memory.held()
    if slots * slot_bytes > free:
        raise DoesNotFit(
            f"slots: {slots} do not fit: {slots} x {in_units(slot_bytes)} of keys and values = "
            f"{in_units(slots * slot_bytes)}, and beside the weights this process may hold "
            f"{in_units(max(0, free))}; {max(0, free // slot_bytes)} would fit"
        )


def _mine(render: DecodeState) -> JanusState:
    if not isinstance(render, JanusState):
        raise TypeError(f"not a render of the janus family: {render!r}")
    return render
