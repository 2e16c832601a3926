"""The active cells of a sparse volume as places in space, and which of them are near a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opencood.geometry.neighbours import NOBODY, first_hits
from opencood.geometry.poses import transform_points
from opencood.models.sparse.volume import SparseTensor, Triple, cell_numbers

_CELLS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class VoxelLevel:
    """The active cells of one grid.

    Attributes:
        features: (M, C).
        cells: (M, 3) int64 z, y, x, ascending.
        shape: cells of the grid along z, y, x.
        origin: x, y, z in metres of the grid's lowest corner.
        cell: x, y, z in metres of a cell.
    """

    features: Tensor
    cells: Tensor
    shape: Triple
    origin: tuple[float, float, float]
    cell: tuple[float, float, float]

    @classmethod
    def of(
        cls, volume: SparseTensor, agent: int, voxel_size: Sequence[float], lidar_range: Sequence[float], stride: int
    ) -> VoxelLevel:
        """The cells of one agent of a volume whose cells are ``stride`` voxels wide."""
        own = volume.sites.coords[:, 0] == agent
        x, y, z = (float(side) * stride for side in voxel_size)
        x0, y0, z0 = (float(limit) for limit in lidar_range[:3])
        return cls(volume.features[own], volume.sites.coords[own, 1:], volume.sites.shape, (x0, y0, z0), (x, y, z))

    def centres(self) -> Tensor:
        """(M, 3) x, y, z in metres of the middles of the cells."""
        return (self.cells.flip(1) + 0.5) * self._vector(self.cell) + self._vector(self.origin)

    def cells_at(self, points: Tensor) -> Tensor:
        """(Q, 3) int64 cells z, y, x that points (Q, 3) lie in, perhaps outside of the grid."""
        return ((points - self._vector(self.origin)) / self._vector(self.cell)).floor().long().flip(1)

    def moved(self, matrix: Tensor) -> VoxelLevel:
        """The features in the cells of the same grid that their middles get to by a (4, 4) matrix; others are lost."""
        cells = self.cells_at(transform_points(self.centres(), matrix.to(self.features)))
        inside = ((cells >= 0) & (cells < cells.new_tensor(self.shape))).all(dim=1)
        return VoxelLevel(self.features[inside], cells[inside], self.shape, self.origin, self.cell)

    def _vector(self, values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.features.device)


def merged(levels: Sequence[VoxelLevel]) -> VoxelLevel:
    """All cells of several levels of one grid; where several have the same, the largest features."""
    first = levels[0]
    cells, features = torch.cat([one.cells for one in levels]), torch.cat([one.features for one in levels])
    numbers, places = torch.unique(_numbers(cells, first.shape), return_inverse=True)
    joined = features.new_full((len(numbers), features.shape[1]), -torch.inf)
    joined = joined.scatter_reduce(0, places[:, None].expand_as(features), features, "amax")
    unravelled = torch.stack(torch.unravel_index(numbers, first.shape), dim=1)
    return VoxelLevel(joined, unravelled, first.shape, first.origin, first.cell)


def near_voxels(queries: Tensor, level: VoxelLevel, ranges: Sequence[int], radius: float, count: int) -> Tensor:
    """Return (Q, count) rows of the first cells near each query (Q, 3), padded like ``ball_query``.

    Near is what lies at most ``ranges`` (z, y, x) cells away and whose middle is nearer than ``radius`` metres.
    """
    if not len(level.cells) or not len(queries):
        return torch.full((len(queries), count), NOBODY, dtype=torch.long, device=queries.device)
    axes = [torch.arange(-reach, reach + 1, device=queries.device) for reach in ranges]
    steps = torch.cartesian_prod(*axes)  # (S, 3)
    numbers, centres = _numbers(level.cells, level.shape), level.centres()
    rows = max(1, _CELLS_AT_ONCE // len(steps))
    return torch.cat([_near(some, level, steps, numbers, centres, radius, count) for some in queries.split(rows)])


def _near(
    queries: Tensor, level: VoxelLevel, steps: Tensor, numbers: Tensor, centres: Tensor, radius: float, count: int
) -> Tensor:
    cells = level.cells_at(queries)[:, None] + steps  # (Q, S, 3)
    inside = ((cells >= 0) & (cells < cells.new_tensor(level.shape))).all(dim=-1)
    wanted = _numbers(cells.clamp(min=0).flatten(0, 1), level.shape).view(inside.shape)
    place = torch.searchsorted(numbers, wanted).clamp(max=len(numbers) - 1)
    hit = inside & (numbers[place] == wanted)
    hit &= ((centres[place] - queries[:, None]) ** 2).sum(dim=-1) < radius**2
    return first_hits(hit, place, count)


def _numbers(cells: Tensor, shape: Triple) -> Tensor:
    """One number per cell (M,) of one grid, ascending with (z, y, x)."""
    return cell_numbers(torch.nn.functional.pad(cells, (1, 0)), shape)
