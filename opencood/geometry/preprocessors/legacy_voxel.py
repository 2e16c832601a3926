"""The old voxel features of VoxelNet."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.geometry.preprocessors.collate import stack_voxels
from opencood.registry import register


@register("preprocessor", "VoxelPreprocessor")
class VoxelPreprocessor:
    """Group points into cells, each point with its offset from the mean of its cell.

    Args:
        vw, vh, vd: cell size along x, y, z, metres.
        T: points kept per cell.
        cav_lidar_range: only its lower corner is used, there is no range filter.
        train: accepted like by every preprocessor, without effect.

    The cell is ``int(xyz - floor(lower corner) / size)``: published as it is, coordinates are not divided by the size
    (data.md, Q14). A warning says so once per process.
    """

    def __init__(
        self, vw: float, vh: float, vd: float, T: int, cav_lidar_range: Sequence[float], train: bool = False
    ) -> None:
        self.max_points = int(T)
        self.origin = np.floor(np.asarray(cav_lidar_range[:3], np.float64)) / np.array([vw, vh, vd], np.float64)
        warnings.warn(
            "VoxelPreprocessor does not divide coordinates by the voxel size, as published; "
            "new models should use SpVoxelPreprocessor.",
            stacklevel=2,
        )

    def preprocess(self, points: NDArray, draws: Any = None) -> dict[str, NDArray]:
        """Return ``voxel_features`` (V, T, 7) float32 and ``voxel_coords`` (V, 3) int32 z y x, sorted, of (N, 4)
        points.

        A feature is the point followed by its offset from the mean of the kept points of its cell.
        """
        cells = (points[:, :3] - self.origin).astype(np.int32)[:, ::-1]
        coords, voxel_of = np.unique(cells, axis=0, return_inverse=True)
        by_voxel = np.argsort(voxel_of.reshape(-1), kind="stable")
        sizes = np.bincount(voxel_of.reshape(-1), minlength=len(coords))
        slot = np.arange(len(points)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = slot < self.max_points
        source, slot = by_voxel[kept], slot[kept]
        voxel = voxel_of.reshape(-1)[source]

        features = np.zeros((len(coords), self.max_points, 7), np.float32)
        features[voxel, slot, :4] = points[source, :4]
        counts = np.minimum(sizes, self.max_points)[:, None]
        means = features[:, :, :3].sum(axis=1) / np.maximum(counts, 1)
        features[voxel, slot, 4:] = points[source, :3] - means[voxel]
        return {"voxel_features": features, "voxel_coords": np.ascontiguousarray(coords)}

    def collate(self, clouds: Sequence[dict[str, NDArray]]) -> dict[str, torch.Tensor]:
        """Join clouds; ``voxel_coords`` become (V, 4) with the cloud's index in front."""
        return stack_voxels(clouds)
