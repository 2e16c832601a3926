"""A fixed number of points per cloud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from opencood.errors import DataError
from opencood.geometry.preprocessors.collate import stack
from opencood.registry import register


@register("preprocessor", "BasePreprocessor")
class BasePreprocessor:
    """Draw a fixed number of points of a cloud without replacement.

    Args:
        sample_num: how many.
        cav_lidar_range, train: accepted like by every preprocessor, without effect.
    """

    def __init__(self, sample_num: int, cav_lidar_range: Sequence[float] = (), train: bool = False) -> None:
        self.sample_num = int(sample_num)

    def preprocess(self, points: NDArray, draws: Any = None) -> dict[str, NDArray]:
        """Return ``downsample_lidar`` (sample_num, 4) of (N, 4) points.

        Args:
            draws: object with ``choice`` of ``numpy.random.RandomState``.

        Raises:
            DataError: the cloud is too small.
            ValueError: no generator was passed.
        """
        if draws is None:
            raise ValueError("BasePreprocessor draws points: pass a generator")
        if len(points) < self.sample_num:
            raise DataError(f"preprocess.args.sample_num is {self.sample_num}, but a cloud has {len(points)} points.")
        return {"downsample_lidar": points[draws.choice(len(points), self.sample_num, replace=False)]}

    def collate(self, clouds: Sequence[dict[str, NDArray]]) -> dict[str, torch.Tensor]:
        """Stack clouds: ``downsample_lidar`` (B, sample_num, 4)."""
        return stack(clouds)
