"""Fitting the map of one agent to the map of the scene (spec models.md 2.6, codealign.md 4.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CenterFit(nn.Module):
    """Centre-crops or zero-pads a map to (int(H * ratio_h), int(W * ratio_w)); no parameters."""

    def __init__(self, ratio_h: float, ratio_w: float) -> None:
        super().__init__()
        self.ratio_h = ratio_h
        self.ratio_w = ratio_w

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, int(H * ratio_h), int(W * ratio_w))."""
        height, width = x.shape[-2:]
        x = _fit(x, 2, int(height * self.ratio_h))
        return _fit(x, 3, int(width * self.ratio_w))


class GridFit(nn.Module):
    """Resizes a map that has not the scene's cells; no parameters.

    Args:
        size: cells (H, W) of the scene.
        accepted: another size that is left alone, because a translator resizes it.
    """

    def __init__(self, size: tuple[int, int], accepted: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.size, self.accepted = size, accepted

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, *size), bilinear."""
        if tuple(x.shape[-2:]) in (self.size, self.accepted):
            return x
        return F.interpolate(x, self.size, mode="bilinear", align_corners=False)


def _fit(x: Tensor, axis: int, size: int) -> Tensor:
    missing = size - x.shape[axis]
    if missing <= 0:
        return x.narrow(axis, round(-missing / 2), size)
    before = missing // 2
    sides = (before, missing - before)
    return F.pad(x, sides if axis == 3 else (0, 0, *sides))
