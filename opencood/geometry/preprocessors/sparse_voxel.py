"""Voxels for pillar and sparse-convolution encoders."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.errors import ConfigError
from opencood.geometry.preprocessors.collate import stack_voxels
from opencood.geometry.voxel_groups import PendingVoxels, VoxelGroups, join_chosen
from opencood.geometry.voxels import grid_size, number_voxels, voxelize
from opencood.registry import register

log = logging.getLogger(__name__)


@register("preprocessor", "SpVoxelPreprocessor")
class SpVoxelPreprocessor:
    """Group points into voxels in point order, with caps on points per voxel and on voxels.

    Args:
        voxel_size: metres along x, y, z.
        max_points_per_voxel: a voxel keeps its first so many points.
        max_voxel_train: cap on voxels of a cloud in training.
        max_voxel_test: the same otherwise.
        cav_lidar_range: ``[x0, y0, z0, x1, y1, z1]``, metres, frame of the points.
        train: which cap applies.

    Raises:
        ConfigError: a cap below 1.
    """

    def __init__(
        self,
        voxel_size: Sequence[float],
        max_points_per_voxel: int,
        max_voxel_train: int,
        max_voxel_test: int,
        cav_lidar_range: Sequence[float],
        train: bool = False,
    ) -> None:
        self.voxel_size = tuple(float(size) for size in voxel_size)
        self.cav_lidar_range = tuple(float(limit) for limit in cav_lidar_range)
        caps = {"max_points_per_voxel": max_points_per_voxel, "max_voxel_train": max_voxel_train,
                "max_voxel_test": max_voxel_test}  # fmt: skip
        for name, cap in caps.items():
            if cap < 1:
                raise ConfigError(f"preprocess.args.{name}: expected at least 1, found {cap}.")
        self.max_points = max_points_per_voxel
        self.max_voxels = max_voxel_train if train else max_voxel_test
        self._cap = "max_voxel_train" if train else "max_voxel_test"
        self._told = False
        self.grid_size = grid_size(self.cav_lidar_range, self.voxel_size)

    def preprocess(self, points: NDArray, draws: Any = None) -> dict[str, NDArray]:
        """Return ``voxel_features``, ``voxel_coords`` and ``voxel_num_points`` of (N, 4) points; see ``voxelize``."""
        voxels = voxelize(points, self.cav_lidar_range, self.voxel_size, self.max_points, self.max_voxels)
        if len(voxels["voxel_coords"]) == self.max_voxels and not self._told:
            limits, everything = self.cav_lidar_range, np.ascontiguousarray(points, np.float32)
            self._tell(len(number_voxels(everything, limits, self.voxel_size, len(points))[1]))
        return voxels

    def choose(self, groups: VoxelGroups, draws: Any = None) -> dict[str, Any]:
        """Return the same of voxels that were made in advance, their features in a form that ``collate`` takes."""
        if len(groups.counts) > self.max_voxels and not self._told:
            self._tell(len(groups.counts))
        return groups.chosen(self.max_points, self.max_voxels, draws)

    def _tell(self, voxels: int) -> None:
        """Once: voxels beyond the cap are lost without a trace, which looks like a detector that is blind somewhere."""
        if voxels > self.max_voxels:
            self._told = True
            log.warning(
                "preprocess.args.%s: a cloud has %d voxels and only %d are kept. Raise it, or make voxels larger or "
                "the range smaller; said once.", self._cap, voxels, self.max_voxels
            )  # fmt: skip

    def collate(self, clouds: Sequence[Mapping[str, Any]]) -> Mapping[str, torch.Tensor]:
        """Join clouds; ``voxel_coords`` become (V, 4) with the cloud's index in front.

        Features of voxels made in advance are written out when they are asked for.
        """
        if all("voxel_points" in cloud for cloud in clouds):
            return join_chosen(clouds, self.max_points)
        return stack_voxels([self._written_out(cloud) for cloud in clouds])

    def _written_out(self, cloud: Mapping[str, Any]) -> Mapping[str, NDArray]:
        if "voxel_points" not in cloud:
            return cloud
        features = PendingVoxels((cloud["voxel_points"],), self.max_points).make("cpu")["voxel_features"].numpy()
        rest = {key: cloud[key] for key in ("voxel_coords", "voxel_num_points")}
        return {"voxel_features": features, **rest}
