"""From one map's grid to another's: resolution and range (spec gencomm.md 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


def fit_range(x: Tensor, have: Sequence[float], want: Sequence[float], density: tuple[float, float]) -> Tensor:
    """Zero-pad or crop maps (N, C, H, W) of one range so that they cover another.

    Args:
        have, want: x0, y0, z0, x1, y1, z1 in metres.
        density: cells per metre along (y, x).
    """
    down, right = density
    sides = (
        round(right * (have[0] - want[0])),
        round(right * (want[3] - have[3])),
        round(down * (have[1] - want[1])),
        round(down * (want[4] - have[4])),
    )
    return F.pad(x, sides) if any(sides) else x


@dataclass(frozen=True)
class GridChange:
    """Two grids; only the ratio of their cells per metre matters, not the sizes of the maps.

    Attributes:
        in_range, out_range: x0, y0, z0, x1, y1, z1 in metres.
        in_shape, out_shape: cells along (y, x) over those ranges.
    """

    in_range: Sequence[float]
    out_range: Sequence[float]
    in_shape: Sequence[int]
    out_shape: Sequence[int]

    @property
    def ratio(self) -> tuple[float, float]:
        """Cells of the target per cell of the source along (y, x)."""
        (down, right), (down_in, right_in) = self.out_density, _density(self.in_range, self.in_shape)
        return down / down_in, right / right_in

    @property
    def out_density(self) -> tuple[float, float]:
        """Cells of the target per metre along (y, x)."""
        return _density(self.out_range, self.out_shape)

    @property
    def resized_shape(self) -> tuple[int, int]:
        """Size of a map of the input's shape after :meth:`resize`."""
        height, width = (math.floor(cells * r) for cells, r in zip(self.in_shape, self.ratio, strict=True))
        return height, width

    def resize(self, x: Tensor) -> Tensor:
        """(N, C, H, W) at the target's resolution, bilinear; sampling positions follow from the ratio itself."""
        if self.ratio == (1.0, 1.0):
            return x
        return F.interpolate(
            x, scale_factor=self.ratio, mode="bilinear", align_corners=False, recompute_scale_factor=False
        )

    def fit(self, x: Tensor) -> Tensor:
        """Zero-pad or crop a resized map to the target's range."""
        return fit_range(x, self.in_range, self.out_range, self.out_density)


def _density(limits: Sequence[float], shape: Sequence[int]) -> tuple[float, float]:
    return shape[0] / (limits[4] - limits[1]), shape[1] / (limits[3] - limits[0])
