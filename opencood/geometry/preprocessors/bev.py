"""Occupancy seen from above, for PIXOR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.errors import ConfigError
from opencood.geometry.preprocessors.collate import stack
from opencood.registry import register


@register("preprocessor", "BevPreprocessor", ignores=("res", "downsample_rate"))
class BevPreprocessor:
    """Turn points into an occupancy grid with mean intensity as its last channel.

    Args:
        geometry_param: what ``load_bev_params`` derives: range ``L1 W1 H1 L2 W2 H2``, cell ``res``, ``input_shape``.
        cav_lidar_range, train: accepted like by every preprocessor, without effect.

    Raises:
        ConfigError: ``geometry_param`` is missing.
    """

    def __init__(
        self,
        geometry_param: Mapping[str, Any] | None = None,
        cav_lidar_range: Sequence[float] = (),
        train: bool = False,
    ) -> None:
        if not geometry_param:
            raise ConfigError("preprocess: BevPreprocessor needs geometry_param; use yaml_parser: load_bev_params.")
        self.origin = np.array([geometry_param[key] for key in ("L1", "W1", "H1")], np.float64)
        self.cell = float(geometry_param["res"])
        self.shape = tuple(int(size) for size in geometry_param["input_shape"])

    def preprocess(self, points: NDArray, draws: Any = None) -> dict[str, NDArray]:
        """Return ``bev_input`` (Z + 1, X, Y) float32 of (N, 4) points; points outside the grid are left out."""
        length, width, channels = self.shape
        cells = ((points[:, :3] - self.origin) / self.cell).astype(np.int64)
        inside = ((cells >= 0) & (cells < (length, width, channels - 1))).all(axis=1)
        x, y, z = cells[inside].T
        grid = np.zeros((channels, length, width), np.float32)
        grid[z, x, y] = 1
        column = x * width + y
        counts = np.bincount(column, minlength=length * width)
        sums = np.bincount(column, weights=points[inside, 3], minlength=length * width)
        grid[-1] = (sums / np.maximum(counts, 1)).reshape(length, width)
        return {"bev_input": grid}

    def collate(self, clouds: Sequence[dict[str, NDArray]]) -> dict[str, torch.Tensor]:
        """Stack clouds: ``bev_input`` (B, Z + 1, X, Y)."""
        return stack(clouds)
