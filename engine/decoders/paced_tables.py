"""How long passes of real models last by width, for the paced family: published figures, with what
was derived from them said. The level of each is that of one H200, or of an H100, whose compute is
the same. They say how cost grows with width, not which model is fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class PassTable:
    """pass_ms: width of the batch -> milliseconds of one pass, from width 1 on. source: where the
    figures are from and how they were derived."""

    pass_ms: Mapping[int, float]
    source: str

    def __post_init__(self) -> None:
        widths, times = list(self.pass_ms), list(self.pass_ms.values())
        if len(widths) < 2 or widths[0] != 1 or widths != sorted(widths):
            raise ValueError(f"pass_ms needs two widths or more, rising from 1: {widths}")
        if times[0] <= 0 or times != sorted(times):
            raise ValueError(f"pass_ms must be above 0 and not fall with the width: {times}")

    @property
    def widest(self) -> int:
        """The last width that there is a figure of."""
        return max(self.pass_ms)

    def seconds(self, width: int) -> float:
        """Of one pass: on the straight line between the two widths around it, and beyond the
        widest on that of the last two."""
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        steps = list(pairwise(self.pass_ms.items()))
        below, above = next((pair for pair in steps if width <= pair[1][0]), steps[-1])
        share = (width - below[0]) / (above[0] - below[0])
        return (below[1] + share * (above[1] - below[1])) / 1000

    def narrowest(self, waste: float = 0.02) -> int:
        """The narrowest width whose cost of a row is within `waste` of the best: wider ones only
        make each render slower."""
        widths = range(1, self.widest + 1)
        cost = {width: self.seconds(width) / width for width in widths}
        return next(w for w in widths if cost[w] <= (1 + waste) * min(cost.values()))


TABLES: Mapping[str, PassTable] = MappingProxyType(
    {
        # 50 steps in 5.552, 9.978, 20.237, 41.221 s for 1, 2, 4, 8 images; 2.399 images/s at 20
        # steps are 20.84 ms a row and step, which stands for the widest row.
        "sdxl": PassTable(
            {1: 22.46, 2: 40.36, 4: 81.85, 8: 166.72},
            "SDXL 1024 px with guidance: level of MLPerf Inference v5.1, 8 x H200 of QCT, offline "
            "(github.com/mlcommons/inference_results_v5.1); growth with width of an A100, ML.ENERGY"
            " (github.com/ml-energy/leaderboard, data/diffusion/text-to-image)",
        ),
        # 50 steps in 11.639, 22.889, 44.811, 87.983 s for 1, 2, 4, 8 images.
        "flux": PassTable(
            {1: 232.8, 2: 457.8, 4: 896.2, 8: 1759.7},
            "FLUX.1-dev 1024 px, bf16, one H100: ML.ENERGY v3 (github.com/ml-energy/leaderboard, "
            "public/data/tasks/text-to-image.json)",
        ),
        # No figures of a batching Janus are published. A roofline of one H200 (4.3 TB/s measured):
        # weights 12.31 GB a token, keys and values of two sequences of 350 tokens on average a row;
        # at 60 % of it, times 12 tokens, as 48 passes are the 576 tokens of a picture.
        "janus": PassTable(
            {1: 58.8, 2: 60.3, 4: 63.2, 8: 69.2},
            "Janus-Pro-7B 384 px, 12 tokens a pass: 60 % of the memory roofline of one H200, "
            "derived, not measured",
        ),
    }
)
