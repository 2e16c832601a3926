"""A sparse volume: features at the active cells of a grid, zero everywhere else."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from opencood.errors import DataError

Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Sites:
    """The active cells of one grid per agent, without repetition.

    Attributes:
        coords: (M, 4) int64 [agent, z, y, x]; the plain back end needs and keeps their ascending order.
        shape: cells of the grid along z, y, x.
        agents: number of grids, also those without a single active cell.
        cache: what has been worked out for these sites, such as index sets; all volumes on the same sites share it.
    """

    coords: Tensor
    shape: Triple
    agents: int
    cache: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features (M, C) at M sites."""

    features: Tensor
    sites: Sites

    @classmethod
    def of(cls, features: Tensor, coords: Tensor, shape: Triple, agents: int) -> SparseTensor:
        """A volume from features (M, C) at distinct cells (M, 4) [agent, z, y, x], in any order.

        Raises:
            DataError: a cell lies outside the grid.
        """
        coords = coords.long()
        _check_inside(coords, (agents, *shape))
        order = cell_numbers(coords, shape).argsort()
        return cls(features[order], Sites(coords[order], shape, agents))

    def with_features(self, features: Tensor) -> SparseTensor:
        """Other features at the same sites."""
        return SparseTensor(features, self.sites)

    def dense(self) -> Tensor:
        """The volume with its zeros (agents, C, D, H, W)."""
        depth, height, width = self.sites.shape
        agents = self.sites.agents
        canvas = self.features.new_zeros(agents, self.features.shape[1], depth * height * width)
        agent, z, y, x = self.sites.coords.unbind(1)
        canvas[agent, :, (z * height + y) * width + x] = self.features
        return canvas.view(agents, -1, depth, height, width)


def cell_numbers(coords: Tensor, shape: Triple, margin: Triple = (0, 0, 0)) -> Tensor:
    """One number per cell (M,), ascending with (agent, z, y, x).

    With a margin the numbers of an axis leave room behind the grid, so that a step of at most that many cells beyond
    the border is no number of a cell.
    """
    numbers = coords[:, 0]
    for axis in range(3):
        numbers = numbers * (shape[axis] + margin[axis]) + coords[:, axis + 1]
    return numbers


def _check_inside(coords: Tensor, limits: tuple[int, ...]) -> None:
    outside = (coords < 0) | (coords >= coords.new_tensor(limits))
    if outside.any():
        worst = coords[outside.any(dim=1)][0].tolist()
        raise DataError(
            f"voxel_coords: cell {worst} [agent, z, y, x] is outside the encoder's grid {list(limits)}; preprocess and "
            "model.args must have the same voxel_size and lidar range."
        )
