"""Convolution whose taps are moved by learned offsets, in plain PyTorch (Dai et al. 2017; spec gencomm.md 2.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformableConv2d(nn.Module):
    """A k x k convolution with stride 1 that reads every tap where an offset puts it; outside the map lies zero.

    Keys ``weight``, ``bias``. Offsets are in cells, channel 2t down and 2t + 1 right for tap t in row-major order.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.kernel_size = kernel_size
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor, offsets: Tensor) -> Tensor:
        """Maps (N, C, H, W) and offsets (N, 2 k^2, H, W) to (N, C', H, W)."""
        taps = sample_cells(x, self._places(offsets))  # (N, C, k^2, H, W)
        weight = self.weight.flatten(2)
        return torch.einsum("ock,nckhw->nohw", weight, taps) + self.bias[:, None, None]

    def _places(self, offsets: Tensor) -> Tensor:
        """(N, k^2, H, W, 2): row and column that every tap of every cell reads."""
        height, width = offsets.shape[-2:]
        reach = torch.arange(self.kernel_size, device=offsets.device) - self.kernel_size // 2
        taps = torch.cartesian_prod(reach, reach)[:, None, None, :]
        axes = (torch.arange(size, device=offsets.device) for size in (height, width))
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        moved = offsets.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2)
        return moved + (taps + cells).to(offsets)


def sample_cells(x: Tensor, places: Tensor) -> Tensor:
    """Bilinear samples (N, C, K, H, W) of maps (N, C, h, w) at rows and columns (N, K, H, W, 2); zero outside."""
    height, width = x.shape[-2:]
    # grid_sample counts columns first, from -1 to 1 between the outer borders of the map
    grid = (2 * places.flip(-1) + 1) / places.new_tensor([width, height]) - 1
    samples = F.grid_sample(x, grid.flatten(1, 2), mode="bilinear", padding_mode="zeros", align_corners=False)
    return samples.unflatten(2, places.shape[1:3])
