"""Joining a coarse map to a finer one (spec models.md 1.3, 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UpsampleJoin(nn.Module):
    """A coarse map brought to the size of a finer one, put behind it, and convolved twice.

    Keys ``conv.{0,1,3,4}``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, C1, h, w) and (N, C2, H, W) to (N, out_channels, H, W)."""
        coarse = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=True)
        return self.conv(torch.cat([fine, coarse], dim=1))
