"""STAMP's adapters and reverters: from a type's feature to the protocol's and back (spec gencomm.md 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.backbones.aligner import ConvNeXtAligner
from opencood.models.links.adapter_grid import GridChange
from opencood.registry import REGISTRY, Entry, register


class Translator(nn.Module):
    """An adapter or a reverter, chosen by name, under its published prefix ``adapter`` or ``reverter``.

    Args:
        role: the prefix.
        of_ego: whether it is that of the type all egos are of.

    Raises:
        ConfigError: unknown ``core_method``, or arguments that do not fit.
    """

    def __init__(
        self, role: str, core_method: str, args: Mapping[str, Any], where: str = "", of_ego: bool = False
    ) -> None:
        super().__init__()
        self.role, self.of_ego = role, of_ego
        self.add_module(role, REGISTRY.build("adapter", core_method, args, where=where or role))

    @property
    def pads(self) -> bool:
        """Whether the map that it makes covers the target's range instead of the source's."""
        return bool(getattr(self.get_submodule(self.role), "pads", False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        return self.get_submodule(self.role)(x)


class GridAdapter(nn.Module):
    """What all adapters know: the channels and grids on both sides.

    Args:
        in_channels, out_channels: of the two maps.
        in_cav_lidar_range, out_cav_lidar_range: x0, y0, z0, x1, y1, z1 in metres.
        in_feature_shape, out_feature_shape: cells (H, W); only their ratio to the ranges matters.
        submodule_args: what the layers of this kind of adapter are made of.

    Attributes:
        build: makes the layers from both numbers of channels and ``submodule_args``.
        pads: whether the map is padded or cropped to the target's range; else it covers what its source covers.
    """

    build: Callable[..., None]
    pads = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        in_cav_lidar_range: Sequence[float],
        out_cav_lidar_range: Sequence[float],
        in_feature_shape: Sequence[int],
        out_feature_shape: Sequence[int],
        submodule_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.grid = GridChange(in_cav_lidar_range, out_cav_lidar_range, in_feature_shape, out_feature_shape)
        channels = {"in_channels": in_channels, "out_channels": out_channels}
        layers = Entry("adapter", type(self).__name__, self.build)
        self.build(**REGISTRY.check_arguments(layers, submodule_args, "submodule_args", **channels))


@register("adapter", "adapterconvnext")
class ConvNeXtAdapter(GridAdapter):
    """Resize, 1x1 convolution, ConvNeXt blocks, 1x1 convolution; the layer ``smoothing`` rests, as published."""

    def build(
        self,
        in_channels: int,
        out_channels: int,
        num_of_blocks: int = 3,
        dim: int = 64,
        kernel_size: int = 7,
        early_scale: float = 1.0,
        late_upsample: bool = False,
        deform: bool = False,
    ) -> None:
        """Args: width and number of the blocks, a factor on what arrives, and whether to resize at the end."""
        self.early_scale, self.late_upsample = early_scale, late_upsample
        self.channel_convert1 = nn.Conv2d(in_channels, dim, 1)
        self.conv = ConvNeXtAligner(dim, num_of_blocks, kernel_size, deform)
        self.channel_convert2 = nn.Conv2d(dim, out_channels, 1)
        self.smoothing = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        x = x * self.early_scale
        if not self.late_upsample:
            x = self.grid.resize(x)
        x = self.channel_convert2(self.conv(self.channel_convert1(x)))
        return self.grid.resize(x) if self.late_upsample else x


@register("adapter", "adapterconv")
class ConvAdapter(GridAdapter):
    """Resize, 1x1 convolution, padding or crop."""

    pads = True

    def build(self, in_channels: int, out_channels: int) -> None:
        """No arguments."""
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        return self.grid.fit(self.conv(self.grid.resize(x)))


@register("adapter", "adapterfc")
class CellwiseAdapter(GridAdapter):
    """Resize, a linear map of its own for every cell, padding or crop; keys ``weights, biases``."""

    pads = True

    def build(self, in_channels: int, out_channels: int) -> None:
        """No arguments."""
        height, width = self.grid.resized_shape
        self.weights = nn.Parameter(torch.randn(height, width, in_channels, out_channels) / in_channels**0.5)
        self.biases = nn.Parameter(torch.zeros(height, width, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        mixed = torch.einsum("nchw,hwco->nohw", self.grid.resize(x), self.weights)
        return self.grid.fit(mixed + self.biases.permute(2, 0, 1))


@register("adapter", "identity")
class ResizingAdapter(GridAdapter):
    """Channels and cells resampled together, without parameters."""

    pads = True  # it stretches to the target's size

    def build(self, in_channels: int, out_channels: int) -> None:
        """No arguments."""
        self.channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        size = (self.channels, *self.grid.out_shape)
        return F.interpolate(x[:, None], size, mode="trilinear", align_corners=False)[:, 0]
