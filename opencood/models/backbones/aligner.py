"""Bringing the maps of one modality to the style the collaboration expects (spec models.md 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.backbones.shrink import DownsampleConv
from opencood.registry import REGISTRY, register


class AlignNet(nn.Module):
    """An aligner chosen by name, under the published prefix ``channel_align``.

    Raises:
        ConfigError: unknown ``core_method``, or spatial alignment is asked for, which no published model has.
    """

    def __init__(self, core_method: str, args: Mapping[str, Any] | None = None, spatial_align: bool = False) -> None:
        super().__init__()
        if spatial_align:
            raise ConfigError("aligner_args: spatial_align is not supported; set it to false.")
        self.channel_align = REGISTRY.build("aligner", core_method, args, where="aligner_args.args")
        if isinstance(self.channel_align, DownsampleConv):  # the only one that is told both widths
            self.out_channels = self.channel_align.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        return self.channel_align(x)


@register("aligner", "identity", ignores=("dim", "num_of_blocks"))
class IdentityAligner(nn.Identity):
    """Leaves the map as it is."""

    def __init__(self) -> None:
        super().__init__()


def layer_scale(dim: int) -> nn.Parameter:
    """A factor per channel that starts so small that its branch is nearly silent."""
    return nn.Parameter(torch.full((dim,), 1e-6))


class ConvNeXtBlock(nn.Module):
    """x + gamma * Linear(GELU(Linear(LayerNorm(depthwise convolution of x)))), channels last in between."""

    def __init__(self, dim: int, kernel_size: int = 7) -> None:
        super().__init__()
        self.gamma = layer_scale(dim)
        self.dwconv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.pwconv2(self.act(self.pwconv1(self.norm(y))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


@register("aligner", "convnext")
class ConvNeXtAligner(nn.Module):
    """ConvNeXt blocks one after the other; keys ``model.{b}.*``."""

    def __init__(self, dim: int, num_of_blocks: int, kernel_size: int = 7, deform: bool = False) -> None:
        super().__init__()
        if deform:
            raise ConfigError(
                "aligner_args.args: deform needs deformable convolutions, which are not here yet; set false."
            )
        self.model = nn.Sequential(*(ConvNeXtBlock(dim, kernel_size) for _ in range(num_of_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        return self.model(x)
