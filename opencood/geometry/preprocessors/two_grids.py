"""The same points in a fine and a coarse grid (CooPre's pretraining; spec coopre.md, section 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray

COARSE = "bev_"


class TwoGrids:
    """Voxels of ``preprocess.args`` and, under names that begin with ``bev_``, those of ``preprocess.bev_args``.

    Args:
        fine: preprocessor of the encoder.
        coarse: preprocessor of the masking grid.
    """

    def __init__(self, fine: Any, coarse: Any) -> None:
        self.fine, self.coarse = fine, coarse

    def preprocess(self, points: NDArray, draws: Any = None) -> dict[str, NDArray]:
        """Both sets of voxels of (N, 4) points."""
        coarse = self.coarse.preprocess(points, draws)
        return self.fine.preprocess(points, draws) | {COARSE + key: value for key, value in coarse.items()}

    def collate(self, clouds: Sequence[Mapping[str, NDArray]]) -> dict[str, torch.Tensor]:
        """Both joined, the index of the cloud in front of their coordinates."""
        fine = [{key: value for key, value in cloud.items() if not key.startswith(COARSE)} for cloud in clouds]
        coarse = [
            {key.removeprefix(COARSE): value for key, value in cloud.items() if key.startswith(COARSE)}
            for cloud in clouds
        ]
        joined = self.coarse.collate(coarse)
        return self.fine.collate(fine) | {COARSE + key: value for key, value in joined.items()}
