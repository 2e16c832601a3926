"""Voxels made in advance: all points of a cloud, voxel after voxel, of which every sample takes what the caps allow.

``voxelize`` keeps the first points of a shuffled cloud in every voxel. Here the cloud was shuffled once, and what
varies between samples is with which of its points an overfull voxel begins (its list is read in a circle), and with
which voxel a cloud of too many voxels. Every point and every voxel is kept as often as any other; voxels within the
caps are those of ``voxelize`` to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opencood.batch import Deferred
from opencood.geometry.jit import compiled
from opencood.geometry.voxels import number_voxels


@dataclass(frozen=True)
class VoxelGroups:
    """All points of a cloud that lie in a grid.

    Attributes:
        coords: (V, 3) int32 cells as z, y, x, in the order of their first point.
        counts: (V,) int32 points of each voxel.
        points: (n, F) float32 points of the first voxel, of the second, and so on, each in the order of the cloud.
    """

    coords: NDArray[np.int32]
    counts: NDArray[np.int32]
    points: NDArray[np.float32]

    def chosen(self, max_points: int, max_voxels: int, random: Any = None) -> dict[str, Any]:
        """What ``voxelize`` keeps, in a compact form.

        Args:
            max_points: of a voxel.
            max_voxels: of the cloud.
            random: generator with the methods of ``numpy.random.RandomState`` that says where to begin; None: in front.

        Returns:
            ``voxel_coords`` (V, 3) and ``voxel_num_points`` (V,), int32, and ``voxel_points``, a ``ChosenPoints``.
        """
        coords, counts = self.coords, self.counts
        first = np.cumsum(counts, dtype=np.int64) - counts
        if len(counts) > max_voxels:
            begin = 0 if random is None else int(random.randint(len(counts)))
            rows = (begin + np.arange(max_voxels)) % len(counts)
            coords, counts, first = coords[rows], counts[rows], first[rows]
        overfull = np.flatnonzero(counts > max_points)
        turns = np.zeros(len(counts), np.int64)
        if random is not None:
            turns[overfull] = random.random_sample(len(overfull)) * counts[overfull]
        kept = np.minimum(counts, np.int32(max_points))
        chosen = ChosenPoints(self.points, first, counts, turns, kept)
        return {"voxel_coords": coords, "voxel_num_points": kept, "voxel_points": chosen}


def group_points(points: NDArray, limits: Sequence[float], voxel_size: Sequence[float]) -> VoxelGroups:
    """Group the points (N, F) of a cloud by cell; arguments and cells are those of ``voxelize``, without its caps."""
    values = np.ascontiguousarray(points, np.float32)
    voxel_of, coords = number_voxels(values, limits, voxel_size, max_voxels=len(values))
    inside = np.flatnonzero(voxel_of >= 0)
    counts = np.bincount(voxel_of[inside], minlength=len(coords)).astype(np.int32)
    order = inside[np.argsort(voxel_of[inside], kind="stable")]
    return VoxelGroups(coords, counts, values[order])


@dataclass(frozen=True)
class ChosenPoints:
    """Which points of a cloud are kept; they are copied when they are written out or sent.

    Attributes:
        points: (n, F) all of them.
        first, counts: (V,) where those of a voxel begin, and how many there are.
        turns: (V,) how many of them are passed over before the first one that is kept.
        kept: (V,) how many are kept; behind the last one of a voxel follows its first.
    """

    points: NDArray[np.float32]
    first: NDArray[np.int64]
    counts: NDArray[np.int32]
    turns: NDArray[np.int64]
    kept: NDArray[np.int32]

    @classmethod
    def all_of(cls, points: NDArray[np.float32], counts: NDArray[np.int32]) -> ChosenPoints:
        """Every point (n, F) of voxels with so many (V,)."""
        return cls(points, np.cumsum(counts, dtype=np.int64) - counts, counts, np.zeros(len(counts), np.int64), counts)

    def one_by_one(self) -> NDArray[np.float32]:
        """The points that are kept, (n, F), voxel after voxel."""
        count = int(self.kept.sum())
        if count == len(self.points):
            return self.points
        return _in_a_row(self.points, self.first, self.counts, self.turns, self.kept, count)

    def write(self, features: NDArray[np.float32]) -> None:
        """Write the points that are kept into (V, P, F), zeros behind them."""
        _write(self.points, self.first, self.counts, self.turns, self.kept, features)


@dataclass(frozen=True, eq=False)
class PendingVoxels:
    """``voxel_features`` before they are written out: most of their places are empty.

    Attributes:
        clouds: what is kept of each cloud. Another process is sent nothing else.
        max_points: P.
    """

    clouds: tuple[ChosenPoints, ...]
    max_points: int
    names: ClassVar[tuple[str, ...]] = ("voxel_features",)

    def make(self, device: torch.device | str) -> dict[str, Tensor]:
        """``voxel_features`` (V, P, F), zero padded, on a device."""
        if torch.device(device).type != "cpu":
            return {"voxel_features": spread(*self.compact(), self.max_points, device)}
        ends = np.cumsum([len(cloud.kept) for cloud in self.clouds])
        features = np.empty((ends[-1], self.max_points, self.clouds[0].points.shape[1]), np.float32)
        for cloud, end in zip(self.clouds, ends, strict=True):
            cloud.write(features[end - len(cloud.kept) : end])
        return {"voxel_features": torch.from_numpy(features)}

    def compact(self) -> tuple[Tensor, Tensor]:
        """(n, F) points, voxel after voxel, and (V,) how many there are in each."""
        points = _joined([cloud.one_by_one() for cloud in self.clouds])
        return points, _joined([cloud.kept for cloud in self.clouds])

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (*self.compact(), self.max_points)


def _joined(arrays: Sequence[NDArray]) -> Tensor:
    """One tensor of all; what was sent by another process is not copied again."""
    (first, *others) = arrays
    return torch.from_numpy(np.concatenate(arrays) if others or not first.flags.writeable else first)


def _received(points: Tensor, counts: Tensor, max_points: int) -> PendingVoxels:
    return PendingVoxels((ChosenPoints.all_of(points.numpy(), counts.numpy()),), max_points)


def spread(points: Tensor, counts: Tensor, max_points: int, device: torch.device | str) -> Tensor:
    """(V, P, F) of (n, F) points that follow each other voxel by voxel, zero padded, without waiting for the device."""
    points, sizes = points.to(device), counts.to(device, torch.int64)
    first = torch.cumsum(sizes, 0) - sizes
    voxel = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes, output_size=len(points))
    features = points.new_zeros(len(sizes), max_points, points.shape[1])
    features[voxel, torch.arange(len(points), device=device) - first[voxel]] = points
    return features


def join_chosen(clouds: Sequence[Mapping[str, Any]], max_points: int) -> Deferred:
    """Join what ``VoxelGroups.chosen`` gave of several clouds, the index of the cloud in front of their cells."""
    counts = [cloud["voxel_num_points"] for cloud in clouds]
    coords = np.empty((sum(map(len, counts)), 4), np.int32)
    coords[:, 0] = np.repeat(np.arange(len(clouds)), list(map(len, counts)))
    np.concatenate([cloud["voxel_coords"] for cloud in clouds], out=coords[:, 1:])
    ready = {"voxel_coords": torch.from_numpy(coords), "voxel_num_points": torch.from_numpy(np.concatenate(counts))}
    return Deferred(ready, PendingVoxels(tuple(cloud["voxel_points"] for cloud in clouds), max_points))


@compiled
def _in_a_row(
    points: NDArray, first: NDArray, counts: NDArray, turns: NDArray, kept: NDArray, count: int
) -> NDArray[np.float32]:
    found = np.empty((count, points.shape[1]), np.float32)
    at = 0
    for voxel in range(len(counts)):
        for place in range(kept[voxel]):
            row = turns[voxel] + place
            if row >= counts[voxel]:
                row -= counts[voxel]
            for column in range(points.shape[1]):  # faster than a row at once
                found[at, column] = points[first[voxel] + row, column]
            at += 1
    return found


@compiled
def _write(points: NDArray, first: NDArray, counts: NDArray, turns: NDArray, kept: NDArray, features: NDArray) -> None:
    for voxel in range(len(counts)):
        for place in range(kept[voxel]):
            row = turns[voxel] + place
            if row >= counts[voxel]:
                row -= counts[voxel]
            for column in range(points.shape[1]):
                features[voxel, place, column] = points[first[voxel] + row, column]
        features[voxel, kept[voxel] :] = 0
