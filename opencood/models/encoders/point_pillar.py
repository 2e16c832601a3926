"""PointPillar encoder: points in vertical columns, one vector per column, columns placed on a map.

Source: spec models.md 1.1. Keys ``pillar_vfe.pfn_layers.{i}.linear|norm``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.encoders.base import Encoded, agents_in
from opencood.registry import REGISTRY, Entry, register


class PillarLayer(nn.Module):
    """Linear, batch norm, ReLU, and the maximum over the points of a pillar.

    The last layer returns the maximum (M, C); an earlier one gives each point its value and that maximum, both of half
    the width.
    """

    def __init__(self, in_channels: int, out_channels: int, use_norm: bool, last: bool) -> None:
        super().__init__()
        self.last = last
        width = out_channels if last else out_channels // 2
        self.linear = nn.Linear(in_channels, width, bias=not use_norm)
        self.norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01) if use_norm else None

    def forward(self, points: Tensor) -> Tensor:
        """(M, P, C_in) to (M, C) or (M, P, C)."""
        values = self.linear(points)
        if self.norm is not None:
            # (M, C, P) contiguous: batch statistics over 1e5 rows lose a digit in any other layout (spec e2e.md)
            values = self.norm(values.transpose(1, 2).contiguous()).transpose(1, 2)
        values = F.relu(values)
        strongest = values.amax(dim=1)
        if self.last:
            return strongest
        return torch.cat([values, strongest[:, None].expand_as(values)], dim=2)


class PillarFeatures(nn.Module):
    """Features of the points relative to their pillar, and the layers that turn a pillar into one vector."""

    def __init__(
        self,
        voxel_size: Sequence[float],
        lidar_range: Sequence[float],
        num_filters: Sequence[int],
        use_norm: bool = True,
        with_distance: bool = False,
        use_absolute_xyz: bool = True,
    ) -> None:
        super().__init__()
        if not num_filters or min(num_filters) < 1:
            raise ConfigError(f"pillar_vfe.num_filters: expected widths of at least 1, found {list(num_filters)}.")
        self.with_distance = with_distance
        self.use_absolute_xyz = use_absolute_xyz
        size = torch.tensor(voxel_size, dtype=torch.float32)
        first_centre = torch.tensor([v / 2 + low for v, low in zip(voxel_size, lidar_range[:3], strict=True)])
        self.voxel_size: Tensor
        self.first_centre: Tensor
        self.register_buffer("voxel_size", size, persistent=False)
        self.register_buffer("first_centre", first_centre, persistent=False)
        widths = [(4 if use_absolute_xyz else 1) + 6 + int(with_distance), *num_filters]
        self.pfn_layers = nn.ModuleList(
            PillarLayer(wide_in, wide_out, use_norm, last=i == len(num_filters) - 1)
            for i, (wide_in, wide_out) in enumerate(zip(widths, widths[1:], strict=False))
        )
        self.decorated_width = widths[0]
        self.out_channels = widths[-1]

    def forward(self, points: Tensor, coords: Tensor, counts: Tensor) -> Tensor:
        """Points (M, P, 4), coordinates (M, 4) [agent, z, y, x] and point counts (M,) to pillar vectors (M, C)."""
        if not len(points):
            return points.new_zeros(0, self.out_channels)
        return self.reduce(self.decorate(points, coords, counts))

    def reduce(self, values: Tensor) -> Tensor:
        """Decorated points (M, P, C_in) to pillar vectors (M, C)."""
        for layer in self.pfn_layers:
            values = layer(values)
        return values

    def decorate(self, points: Tensor, coords: Tensor, counts: Tensor) -> Tensor:
        """Points with their offsets from mean and centre of their pillar (M, P, C_in), zero where there is none."""
        xyz = points[..., :3]
        mean = xyz.sum(dim=1, keepdim=True) / counts.to(points).view(-1, 1, 1)
        centre = coords[:, [3, 2, 1]].to(points) * self.voxel_size + self.first_centre
        parts = [points if self.use_absolute_xyz else points[..., 3:], xyz - mean, xyz - centre[:, None]]
        if self.with_distance:
            parts.append(xyz.norm(dim=2, keepdim=True))
        # empty rows are zeroed before the layers: what a layer makes of a zero row takes part in the maximum
        filled = torch.arange(points.shape[1], device=points.device) < counts[:, None]
        return torch.cat(parts, dim=-1) * filled[..., None]


class PillarScatter(nn.Module):
    """Places pillar vectors on the map; no parameters."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, pillars: Tensor, coords: Tensor, agents: int) -> Tensor:
        """Vectors (M, C) at [agent, z, y, x] to a contiguous map (agents, C, rows, columns), zero elsewhere."""
        canvas = pillars.new_zeros(agents, pillars.shape[1], self.rows * self.columns)
        index = coords.long()
        canvas[index[:, 0], :, index[:, 2] * self.columns + index[:, 3]] = pillars
        return canvas.view(agents, -1, self.rows, self.columns)


@register("encoder", "point_pillar", ignores=("anchor_number",))
class PointPillar(nn.Module):
    """LiDAR points in pillars, one vector each, on a map at the resolution of the pillars.

    Args:
        voxel_size: pillar size x, y, z in metres.
        lidar_range: x0, y0, z0, x1, y1, z1 in metres; the height must be one pillar.
        pillar_vfe: ``num_filters``, ``use_norm``, ``with_distance``, ``use_absolute_xyz``.
        point_pillar_scatter: ``num_features``; ``grid_size``, which older parsers add, is computed here instead.

    Raises:
        ConfigError: more than one cell in height, or widths that do not fit.
    """

    layers: type[PillarFeatures] = PillarFeatures

    def __init__(
        self,
        voxel_size: Sequence[float],
        lidar_range: Sequence[float],
        pillar_vfe: Mapping[str, Any],
        point_pillar_scatter: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        columns, rows, heights = grid_size(voxel_size, lidar_range)
        if heights != 1:
            raise ConfigError(
                f"point_pillar: lidar_range {list(lidar_range)} with voxel_size {list(voxel_size)} gives {heights} "
                "cells in height; a pillar has exactly one, so set voxel_size[2] to the height of the range."
            )
        entry = Entry("encoder", "pillar_vfe", PillarFeatures)
        known = REGISTRY.check_arguments(
            entry, pillar_vfe, "pillar_vfe", voxel_size=voxel_size, lidar_range=lidar_range
        )
        self.pillar_vfe = self.layers(**known)
        self.scatter = PillarScatter(rows, columns)
        self.out_channels = self.pillar_vfe.out_channels
        declared = (point_pillar_scatter or {}).get("num_features", self.out_channels)
        if declared != self.out_channels:
            raise ConfigError(
                f"point_pillar: point_pillar_scatter.num_features is {declared}, but the last pillar_vfe.num_filters "
                f"is {self.out_channels}; make them equal."
            )

    def forward(self, inputs: Mapping[str, Tensor], agents: int | None = None) -> Encoded:
        """Map (agents, C, H, W) of ``voxel_features`` (M, P, 4), ``voxel_coords`` (M, 4), ``voxel_num_points`` (M,).

        An agent without a single pillar gets a map of zeros. Without ``agents`` the last one that has a pillar counts.
        """
        coords = inputs["voxel_coords"]
        pillars = self.pillar_vfe(inputs["voxel_features"], coords, inputs["voxel_num_points"])
        return Encoded(self.scatter(pillars, coords, agents_in(coords, agents)), {})


def grid_size(voxel_size: Sequence[float], lidar_range: Sequence[float]) -> tuple[int, int, int]:
    """Cells along x, y, z."""
    cells = [round((lidar_range[i + 3] - lidar_range[i]) / voxel_size[i]) for i in range(3)]
    return cells[0], cells[1], cells[2]
