"""Single-token steps of several renders at once, each row of the cache at its own position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.decoders.janus.cache import Row, RowCache, TokenPlaces
from engine.decoders.janus.network import JanusNetwork
from engine.decoders.janus.sampling import draw_tokens
from engine.render import RenderSpec


@dataclass(eq=False, slots=True)
class JanusState:
    """One image of this family."""

    spec: RenderSpec
    pass_no: int
    tokens: list[int]
    """Drawn so far, row by row of the grid."""
    chances: NDArray[np.float32]
    """[cells] in 0..1: what decides each token."""
    rows: tuple[Row, ...] = ()
    """Of the cache: with the prompt, and without it if there is guidance. They hold all tokens but
    the last one."""
    redrawn: None = None


class TokenSteps:
    """Some renders in step. Their rows come first in the cache; those behind, up to `least_rows`,
    are padding: what is written there is overwritten before it is read, in use or not."""

    def __init__(
        self,
        network: JanusNetwork,
        cache: RowCache,
        renders: Sequence[JanusState],
        least_rows: int,
    ) -> None:
        rows = [row for render in renders for row in render.rows]
        cache.bring_to_front(rows)
        count = max(len(rows), least_rows)
        behind = [row.position for row in cache.in_use[len(rows) : count]]
        positions = [row.position for row in cache.in_use[: len(rows)]] + behind
        positions += [0] * (count - len(positions))
        owners = [0] * count
        for number, render in enumerate(renders):
            for row in render.rows:
                owners[row.index] = number
        self._network, self._cache, self._renders = network, cache, renders
        self._reach = max(positions)
        self._read = slice(count)
        self._index = self._ints(range(count))
        self._at = self._ints(positions)
        self._moves = self._ints([index < len(rows) for index in range(count)])
        self._owner = self._ints(owners)
        self._with_prompt = self._ints([render.rows[0].index for render in renders])
        self._without = self._ints([render.rows[-1].index for render in renders])
        guidance = [[render.spec.guidance] for render in renders]
        self._guidance = torch.tensor(guidance, device=network.device)

    def draw(self, count: int, temperature: float) -> list[JanusState]:
        """`count` more tokens of each render; those whose logits were no numbers once."""
        chances = np.stack(
            [r.chances[len(r.tokens) : len(r.tokens) + count] for r in self._renders]
        )
        uniform = torch.from_numpy(chances).to(self._network.device)  # [renders, count]
        begin = self._network.begin
        last = self._ints([r.tokens[-1] if r.tokens else begin for r in self._renders])
        drawn, well = [], torch.ones_like(last, dtype=torch.bool)
        for step in range(count):
            logits = self._logits(last, step)
            well &= logits.sum(dim=-1).isfinite()
            last = draw_tokens(logits, uniform[:, step], temperature)
            drawn.append(last)
        for render, tokens in zip(self._renders, torch.stack(drawn, 1).tolist(), strict=True):
            render.tokens += tokens
            for row in render.rows:
                row.position += count
        return list(compress(self._renders, (~well).tolist()))

    def _logits(self, last: Tensor, step: int) -> Tensor:
        """Guided, float32 [renders, codebook], after the last token of each render, [renders]."""
        at = self._at + self._moves * step
        places = TokenPlaces(self._cache, self._index, at, self._read, self._reach + step)
        hidden = self._network.read(self._network.embeddings[last[self._owner]], places)
        logits = self._network.logits(hidden)
        unguided = logits[self._without]
        return unguided + self._guidance * (logits[self._with_prompt] - unguided)

    def _ints(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._network.device)
