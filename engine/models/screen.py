"""The concept screen's networks: does this picture show a weapon? Trained on our own pictures."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

WIDTHS = (24, 48, 96, 128)


class ScreenNet(nn.Module):
    """Pictures [B, 3, 96, 96] in [0, 1] -> logits [B]; positive means weapon."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        before = 12
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
            before = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(before * 9, 64), nn.ReLU())
        self.out = nn.Linear(64, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        return cast(Tensor, self.out(self.head(self.features(pictures * 2 - 1)))).squeeze(1)


class TwoLooks(nn.Module):
    """A network for the whole picture and one for what stands before its background, enlarged; the
    mean of both logits, so that neither blocks what the other one sees to be harmless."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = ScreenNet()
        self.near = ScreenNet()

    def forward(self, whole: Tensor, near: Tensor) -> Tensor:
        return (cast(Tensor, self.whole(whole)) + cast(Tensor, self.near(near))) / 2
