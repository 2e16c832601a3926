"""The sparse 3D backbone of SECOND: voxels to a map at an eighth of their resolution (spec models.md 1.2)."""

from __future__ import annotations

from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.sparse.index_sets import Kernel
from opencood.models.sparse.layers import SparseBlock, SparseResidualBlock
from opencood.models.sparse.volume import SparseTensor, Triple

SAME = Kernel((3, 3, 3), submanifold=True)
HALVE = Kernel((3, 3, 3), (2, 2, 2), (1, 1, 1))
HALVE_CLIPPED = Kernel((3, 3, 3), (2, 2, 2), (0, 1, 1))
SQUEEZE = Kernel((3, 1, 1), (2, 1, 1))


class SparseBackbone3d(nn.Module):
    """Four stages of sparse convolutions, the last three at half the resolution of the one before, and a last squeeze.

    Keys ``conv_input.{0,1}``, ``conv1.0.{0,1}``, ``conv{2,3,4}.{0,1,2}.{0,1}``, ``conv_out.{0,1}``. With residual
    blocks (spec coopre.md 3) ``conv1.{0,1}`` and ``conv{2,3,4}.{1,2}`` hold ``conv{1,2}``, ``bn{1,2}``.

    Args:
        shape: cells of the grid along z, y, x.
        in_channels: channels the first layer is declared for.
        features: channels that arrive; a wider first layer runs as published (spec models.md 6.3).
        depth_channels: channels of each slice of height of the result.
        residual: whether the stages are made of residual blocks, and the last is twice as wide.

    Raises:
        ConfigError: no slice of height is left, or the channels do not fit.
    """

    def __init__(
        self,
        shape: Triple,
        in_channels: int = 4,
        features: int = 4,
        depth_channels: int = 128,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.shape = shape
        deepest = 128 if residual else 64
        self.conv_input = SparseBlock(in_channels, 16, SAME, arriving=features)
        self.conv1 = nn.Sequential(*_same(16, 2 if residual else 1, residual))
        self.conv2 = nn.Sequential(SparseBlock(16, 32, HALVE), *_same(32, 2, residual))
        self.conv3 = nn.Sequential(SparseBlock(32, 64, HALVE), *_same(64, 2, residual))
        self.conv4 = nn.Sequential(SparseBlock(64, deepest, HALVE_CLIPPED), *_same(deepest, 2, residual))
        self.conv_out = SparseBlock(deepest, depth_channels, SQUEEZE)
        self.slices = _slices(shape)
        halved = HALVE.output_shape(shape)
        quarter = HALVE.output_shape(halved)
        # Cells along z, y, x after each stage.
        self.level_shapes = (shape, halved, quarter, HALVE_CLIPPED.output_shape(quarter))
        self.out_channels = depth_channels * self.slices

    def levels(self, volume: SparseTensor) -> list[SparseTensor]:
        """The volumes after the four stages, at 1, 1/2, 1/4 and 1/8 of the resolution."""
        volume = self.conv_input(volume)
        volumes = []
        for stage in (self.conv1, self.conv2, self.conv3, self.conv4):
            volume = stage(volume)
            volumes.append(volume)
        return volumes

    def forward(self, features: Tensor, coords: Tensor, agents: int) -> Tensor:
        """Voxel features (M, C) at (M, 4) [agent, z, y, x] to a map (agents, C' * D, H, W), channel c * D + d."""
        return self.flattened(self.levels(SparseTensor.of(features, coords, self.shape, agents))[-1])

    def flattened(self, deepest: SparseTensor) -> Tensor:
        """The volume of the last stage to a map (agents, C' * D, H, W), channel c * D + d."""
        return self.conv_out(deepest).dense().flatten(1, 2)


def _same(channels: int, blocks: int, residual: bool) -> list[nn.Module]:
    """Blocks that keep sites and channels."""
    if residual:
        return [SparseResidualBlock(channels, SAME) for _ in range(blocks)]
    return [SparseBlock(channels, channels, SAME) for _ in range(blocks)]


def _slices(shape: Triple) -> int:
    """Slices of height that remain."""
    remaining = shape
    for kernel in (HALVE, HALVE, HALVE_CLIPPED, SQUEEZE):
        remaining = kernel.output_shape(remaining)
    if min(remaining) < 1:
        raise ConfigError(
            f"second: a grid of {shape[0] - 1} x {shape[1]} x {shape[2]} cells (z, y, x) leaves a map of "
            f"{' x '.join(str(max(side, 0)) for side in remaining)}; smaller voxels or a larger lidar_range are needed "
            "(published: 40 cells in height)."
        )
    return remaining[0]
