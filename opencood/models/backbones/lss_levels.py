"""The map network of Lift-Splat-Shoot with fusion inside (spec models.md 4.2, homogeneous.md 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.backbones.lss_bev import WIDTHS, residual_stage
from opencood.models.backbones.upsample import UpsampleJoin

JOINED, OUT = 256, 128


class LssLevels(nn.Module):
    """Three stages of ResNet-18 from half the size on, joined on the way up, and two convolutions down to 128.

    Keys ``conv1``, ``bn1``, ``layer{1,2,3}``, ``up_layer{1,2}.conv.*``, ``down_layer.{0,2}``.

    Attributes:
        joins_first: whether agents are fused after the way up; else at every level before it.
    """

    def __init__(self, inplanes: int, joins_first: bool) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.in_channels, self.out_channels = inplanes, OUT
        self.joins_first = joins_first
        self.level_channels = [JOINED] if joins_first else list(WIDTHS)
        self.conv1 = nn.Conv2d(inplanes, fine, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(fine)
        self.layer1 = residual_stage(fine, fine, stride=1)
        self.layer2 = residual_stage(fine, middle, stride=2)
        self.layer3 = residual_stage(middle, coarse, stride=2)
        self.up_layer2 = UpsampleJoin(middle + coarse, JOINED)
        self.up_layer1 = UpsampleJoin(fine + JOINED, JOINED)
        self.down_layer = nn.Sequential(
            nn.Conv2d(JOINED, JOINED, 3, padding=1), nn.ReLU(), nn.Conv2d(JOINED, OUT, 3, padding=1), nn.ReLU()
        )

    def first(self, x: Tensor) -> Tensor:
        """What agents send: the joined map (N, 256, H / 2, W / 2), or the finest level (N, 64, H / 2, W / 2)."""
        level = self.layer1(F.relu(self.bn1(self.conv1(x))))
        return self._joined([level, *self._coarser(level)]) if self.joins_first else level

    def levels(self, x: Tensor, first: int = 0) -> list[Tensor]:
        """The maps to be fused from ``first`` (0 or 1) on; ``x`` is what the first of them is made of."""
        start = [self.first(x)] if first == 0 else []
        return start if self.joins_first else [*start, *self._coarser(start[0] if start else x)]

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """Fused maps, or an agent's own, to (N, 128, H / 2, W / 2)."""
        return self.down_layer(levels[0] if self.joins_first else self._joined(levels))

    def _coarser(self, fine: Tensor) -> list[Tensor]:
        middle = self.layer2(fine)
        return [middle, self.layer3(middle)]

    def _joined(self, levels: Sequence[Tensor]) -> Tensor:
        fine, middle, coarse = levels
        return self.up_layer1(self.up_layer2(coarse, middle), fine)
