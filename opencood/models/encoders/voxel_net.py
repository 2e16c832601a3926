"""VoxelNet encoder: features of voxels, a dense volume, and its slices of height side by side.

Source: spec models.md 1.4, 4.2. Keys ``svfe.pfn_layers.{i}.linear|norm``, ``cml.conv3d_{1,2,3}.conv|bn``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.encoders.base import Encoded, agents_in
from opencood.models.encoders.point_pillar import PillarFeatures, grid_size
from opencood.models.sparse.volume import SparseTensor, Triple
from opencood.registry import REGISTRY, Entry, register

MIDDLE_CHANNELS = 64
# Stride and padding of the middle layers along z, y, x.
MIDDLE = (((2, 1, 1), (1, 1, 1)), ((1, 1, 1), (0, 1, 1)), ((2, 1, 1), (1, 1, 1)))


class MiddleLayer(nn.Module):
    """3x3x3 convolution, batch norm, ReLU."""

    def __init__(self, stride: Triple, padding: Triple) -> None:
        super().__init__()
        self.conv = nn.Conv3d(MIDDLE_CHANNELS, MIDDLE_CHANNELS, 3, stride, padding)
        self.bn = nn.BatchNorm3d(MIDDLE_CHANNELS)

    def forward(self, volume: Tensor) -> Tensor:
        """(N, C, D, H, W) to (N, C, D', H, W)."""
        return self.bn(self.conv(volume)).relu()


class MiddleLayers(nn.Sequential):
    """Three middle layers, which reduce the height."""

    def __init__(self) -> None:
        super().__init__()
        for i, (stride, padding) in enumerate(MIDDLE, start=1):
            self.add_module(f"conv3d_{i}", MiddleLayer(stride, padding))


@register(
    "encoder",
    "voxel_net",
    "VoxelNet",
    ignores=("anchor_number", "anchor_num", "N", "D", "H", "W", "T", "point_pillar_scatter"),
)
class VoxelNet(nn.Module):
    """LiDAR points in voxels, one vector each, slices of height side by side.

    Args:
        voxel_size: x, y, z in metres.
        lidar_range: x0, y0, z0, x1, y1, z1 in metres.
        pillar_vfe: as that of ``point_pillar``.
        runs_middle: whether the middle layers are run. Inside collaborative models they only are in the checkpoint.

    Raises:
        ConfigError: the middle layers are to be run but the voxels do not fit them.
    """

    def __init__(
        self,
        voxel_size: Sequence[float],
        lidar_range: Sequence[float],
        pillar_vfe: Mapping[str, Any],
        runs_middle: bool = False,
    ) -> None:
        super().__init__()
        columns, rows, heights = grid_size(voxel_size, lidar_range)
        self.shape = (heights, rows, columns)
        self.runs_middle = runs_middle
        entry = Entry("encoder", "pillar_vfe", PillarFeatures)
        known = REGISTRY.check_arguments(
            entry, pillar_vfe, "pillar_vfe", voxel_size=voxel_size, lidar_range=lidar_range
        )
        self.svfe = PillarFeatures(**known)
        self.cml = MiddleLayers()
        if runs_middle and self.svfe.out_channels != MIDDLE_CHANNELS:
            raise ConfigError(
                f"voxel_net: the middle layers take {MIDDLE_CHANNELS} channels, so the last pillar_vfe.num_filters is "
                f"{MIDDLE_CHANNELS}, not {self.svfe.out_channels}."
            )
        self.out_channels = self.svfe.out_channels * (middle_slices(heights) if runs_middle else heights)

    def forward(self, inputs: Mapping[str, Tensor], agents: int | None = None) -> Encoded:
        """Map (agents, C * D, H, W), channel c * D + d, of the same inputs as ``point_pillar``."""
        coords = inputs["voxel_coords"]
        vectors = self.svfe(inputs["voxel_features"], coords, inputs["voxel_num_points"])
        volume = SparseTensor.of(vectors, coords, self.shape, agents_in(coords, agents)).dense()
        if self.runs_middle:
            volume = self.cml(volume)
        return Encoded(volume.flatten(1, 2), {})


def middle_slices(heights: int) -> int:
    """Slices of height the middle layers leave.

    Raises:
        ConfigError: there would be none.
    """
    for (stride, _, _), (padding, _, _) in MIDDLE:
        heights = (heights + 2 * padding - 3) // stride + 1
    if heights < 1:
        raise ConfigError("voxel_net: the middle layers leave no slice of height; make voxel_size[2] smaller.")
    return heights
