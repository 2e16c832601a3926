"""Bringing the levels of a backbone to one size and side by side (spec models.md 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError


def norm(channels: int) -> nn.BatchNorm2d:
    """The batch norm of the PointPillars family, which checkpoints depend on."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def make_deblocks(
    num_filters: Sequence[int], upsample_strides: Sequence[float], num_upsample_filter: Sequence[int]
) -> tuple[nn.ModuleList, int]:
    """One resampling block per level, and their joint width; a surplus stride adds a block on the concatenation.

    Raises:
        ConfigError: the lists do not fit each other.
    """
    levels = len(num_filters)
    if not upsample_strides:
        return nn.ModuleList(), sum(num_filters)
    if len(num_upsample_filter) != levels or len(upsample_strides) not in (levels, levels + 1):
        raise ConfigError(
            f"backbone: {levels} levels need {levels} values in num_upsample_filter and {levels} (or one more) in "
            f"upsample_strides, but there are {len(num_upsample_filter)} and {len(upsample_strides)}."
        )
    blocks = [
        _deblock(width_in, width_out, stride)
        for width_in, width_out, stride in zip(num_filters, num_upsample_filter, upsample_strides, strict=False)
    ]
    joint = sum(num_upsample_filter)
    if len(upsample_strides) > levels:
        blocks.append(_deblock(joint, joint, upsample_strides[-1]))
    return nn.ModuleList(blocks), joint


def decode(deblocks: nn.ModuleList, levels: Sequence[Tensor]) -> Tensor:
    """Resample every level with its deblock and concatenate over channels; without deblocks concatenate as they are."""
    if not deblocks:
        return _joined(levels) if len(levels) > 1 else levels[0]
    joint = _joined([block(level) for block, level in zip(deblocks, levels, strict=False)])
    return deblocks[-1](joint) if len(deblocks) > len(levels) else joint


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate over channels.

    Raises:
        ConfigError: the levels are not equally large, because a stride does not divide the map.
    """
    sizes = list(dict.fromkeys(tuple(level.shape[-2:]) for level in maps))
    if len(sizes) > 1:
        found = ", ".join(f"{rows} x {columns}" for rows, columns in sizes)
        raise ConfigError(
            f"backbone: its levels come out in different sizes ({found} cells) and cannot be joined. Rows and columns "
            "of the grid (range / voxel size) must be multiples of the product of layer_strides: change the range "
            "(--range, cav_lidar_range) or the voxel size."
        )
    return torch.cat(list(maps), dim=1)


def _deblock(in_channels: int, out_channels: int, stride: float) -> nn.Sequential:
    if stride >= 1:
        step = int(stride)
        resample: nn.Module = nn.ConvTranspose2d(in_channels, out_channels, step, stride=step, bias=False)
    else:
        step = round(1 / stride)
        resample = nn.Conv2d(in_channels, out_channels, step, stride=step, bias=False)
    return nn.Sequential(resample, norm(out_channels), nn.ReLU())
