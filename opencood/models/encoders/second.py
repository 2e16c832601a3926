"""SECOND encoder: small voxels, their mean points, a sparse 3D network, and its slices of height side by side.

Source: spec models.md 1.2. Keys ``spconv_block.*``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.backbones.sparse_volume import SparseBackbone3d
from opencood.models.encoders.base import Encoded, agents_in
from opencood.models.encoders.point_pillar import grid_size
from opencood.models.sparse.volume import SparseTensor
from opencood.registry import register

POINT_FEATURES = 4
BLOCK = "spconv_block"
# Extra outputs, for second stages only.
LEVELS, BEV = "_levels", "_bev"


class SparseEncoder(nn.Module):
    """The sparse backbone on the mean point of every voxel.

    Args:
        backbone: for a grid one cell higher than the range, as published (:func:`sparse_grid`).
        name: what the backbone is called in the state dict.
    """

    def __init__(self, backbone: SparseBackbone3d, name: str = BLOCK) -> None:
        super().__init__()
        self.add_module(name, backbone)
        self.name = name
        self.out_channels = backbone.out_channels
        # Second stages look at the map and the sparse levels once more.
        self.keeps_levels = False

    def forward(self, inputs: Mapping[str, Tensor], agents: int | None = None) -> Encoded:
        """Map (agents, C, H, W) of ``voxel_features`` (M, P, F), ``voxel_coords`` (M, 4), ``voxel_num_points`` (M,).

        Without ``agents`` the last one that has a voxel counts.

        Raises:
            DataError: a voxel lies outside the grid.
        """
        coords = inputs["voxel_coords"]
        backbone: Any = self.get_submodule(self.name)
        means, found = mean_points(inputs), agents_in(coords, agents)
        if not self.keeps_levels:
            return Encoded(backbone(means, coords, found), {})
        levels = backbone.levels(SparseTensor.of(means, coords, backbone.shape, found))
        level = backbone.flattened(levels[-1])
        return Encoded(level, {LEVELS: levels, BEV: level})


def mean_points(voxels: Mapping[str, Tensor]) -> Tensor:
    """(M, F) the mean point of every voxel, zero in a voxel without points."""
    points = voxels["voxel_features"]
    return points.sum(dim=1) / voxels["voxel_num_points"].clamp(min=1)[:, None].to(points)


@register("encoder", "second", ignores=("anchor_number", "anchor_num"))
def second(
    voxel_size: Sequence[float],
    lidar_range: Sequence[float],
    mean_vfe: Mapping[str, Any] | None = None,
    spconv: Mapping[str, Any] | None = None,
    map2bev: Mapping[str, Any] | None = None,
) -> SparseEncoder:
    """LiDAR points in small voxels, sparse 3D convolutions, a map at an eighth of the voxels' resolution.

    Args:
        voxel_size: x, y, z in metres.
        lidar_range: x0, y0, z0, x1, y1, z1 in metres.
        mean_vfe: ``num_point_features``, numbers of a point.
        spconv: ``num_features_in`` (of the first layer) and ``num_features_out`` (of each slice of height).
        map2bev: ``feature_num``, channels of the map; checked, not needed.

    Raises:
        ConfigError: the grid is too small, or the channels do not fit.
    """
    arriving = (mean_vfe or {}).get("num_point_features", POINT_FEATURES)
    widths = spconv or {}
    backbone = SparseBackbone3d(
        sparse_grid(voxel_size, lidar_range),
        widths.get("num_features_in", arriving),
        arriving,
        widths.get("num_features_out", 128),
    )
    declared = (map2bev or {}).get("feature_num", backbone.out_channels)
    if declared != backbone.out_channels:
        raise ConfigError(
            f"second: map2bev.feature_num is {declared}, but the map has {backbone.out_channels} channels "
            f"({backbone.out_channels // backbone.slices} in each of {backbone.slices} slices of height)."
        )
    return SparseEncoder(backbone)


def sparse_grid(voxel_size: Sequence[float], lidar_range: Sequence[float]) -> tuple[int, int, int]:
    """Cells along z, y, x; in height one more than the range has, as published."""
    columns, rows, heights = grid_size(voxel_size, lidar_range)
    return heights + 1, rows, columns
