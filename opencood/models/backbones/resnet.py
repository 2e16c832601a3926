"""Residual backbone over bird's-eye-view maps: plain blocks or grouped bottlenecks (spec models.md 2.1, 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.backbones.deblocks import decode, make_deblocks
from opencood.models.backbones.levels import check_lists
from opencood.registry import register

GROUPS = 32


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 of twice the width, 1x1, around a shortcut (ResNeXt with expansion 1)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.conv1 = nn.Conv2d(in_channels, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=GROUPS, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv3 = nn.Conv2d(wide, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResidualStages(nn.Module):
    """The stages ``layer0``, ``layer1``... of residual blocks."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layer_nums: Sequence[int],
        layer_strides: Sequence[int],
        num_filters: Sequence[int],
        inplanes: int,
    ) -> None:
        super().__init__()
        widths = [inplanes, *num_filters]
        for i, (count, stride) in enumerate(zip(layer_nums, layer_strides, strict=True)):
            blocks = [block(widths[i], widths[i + 1], stride)]
            blocks += [block(widths[i + 1], widths[i + 1], 1) for _ in range(count - 1)]
            self.add_module(f"layer{i}", nn.Sequential(*blocks))


@register(
    "backbone", "ResNetBEVBackbone", ignores=("anchor_number", "resnet", "is_resnet", "compression", "voxel_size")
)
class ResNetBEVBackbone(nn.Module):
    """Residual stages, each level resampled to one size and concatenated.

    Keys ``resnet.layer{i}.{b}.*`` and ``deblocks.{i}.{0,1}``. Without ``upsample_strides`` the levels are concatenated
    as they are, which for the usual single stage is that stage's output. ``resnext`` chooses the bottlenecks.
    """

    def __init__(
        self,
        layer_nums: Sequence[int],
        layer_strides: Sequence[int],
        num_filters: Sequence[int],
        upsample_strides: Sequence[float] = (),
        num_upsample_filter: Sequence[int] = (),
        inplanes: int = 64,
        resnext: bool = False,
    ) -> None:
        super().__init__()
        check_lists(layer_nums, layer_strides, num_filters)
        self.in_channels = inplanes
        block = Bottleneck if resnext else BasicBlock
        self.resnet = ResidualStages(block, layer_nums, layer_strides, num_filters, inplanes)
        self.deblocks, self.out_channels = make_deblocks(num_filters, upsample_strides, num_upsample_filter)
        self.level_channels = list(num_filters)
        for module in self.resnet.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def levels(self, x: Tensor, first: int = 0) -> list[Tensor]:
        """Outputs of the stages from ``first`` on, each computed from the one before."""
        outputs = []
        for stage in list(self.resnet.children())[first:]:
            x = stage(x)
            outputs.append(x)
        return outputs

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """All levels resampled and concatenated (N, C, H, W)."""
        return decode(self.deblocks, levels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H', W')."""
        return self.decode(self.levels(x))


@register("backbone", "ResNetBEVLayers", ignores=("anchor_number", "resnext"))
class ResNetBEVLayers(ResNetBEVBackbone):
    """The same backbone fed with its level 0: stage 0 keeps its place in checkpoints but is not run."""

    def __init__(
        self,
        layer_nums: Sequence[int],
        layer_strides: Sequence[int],
        num_filters: Sequence[int],
        upsample_strides: Sequence[float] = (),
        num_upsample_filter: Sequence[int] = (),
        inplanes: int = 64,
    ) -> None:
        super().__init__(layer_nums, layer_strides, num_filters, upsample_strides, num_upsample_filter, inplanes)
        self.in_channels = num_filters[0]

    def levels(self, x: Tensor, first: int = 1) -> list[Tensor]:
        """Level 0, which is ``x``, and the outputs of the stages after it."""
        return [x, *super().levels(x, first)]


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
