"""The post-processor of detectors that also say how sure they are about each box (CoAlign)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from opencood.geometry.coding import flatten_head
from opencood.geometry.postprocessors import candidates as heads
from opencood.geometry.postprocessors.voxel import Outputs, Samples, VoxelPostprocessor
from opencood.registry import register


@register("postprocessor", "UncertaintyVoxelPostprocessor")
class UncertaintyVoxelPostprocessor(VoxelPostprocessor):
    """Post-processor of a head ``unc_preds`` (1, u * K, H, W) with 2, 3 or 7 log variances per box.

    Differs from ``VoxelPostprocessor`` in two published facts: the final range test looks at x and y only, and a
    predicted overlap does not change the score.
    """

    range_axes = "xy"
    uses_iou_head = False

    def post_process(
        self, data_dict: Samples, output_dict: Mapping[Any, Outputs], return_uncertainty: bool = False
    ) -> tuple[Any, ...]:
        """Return (M, 8, 3) corners and (M,) scores, and with ``return_uncertainty`` (M, u) log variances; see the base.

        Agents without outputs are simply not fused; everything is None when no agent has a candidate.
        """
        corners, found = self._fused(data_dict, output_dict)
        if found is None:
            return (None, None, None) if return_uncertainty else (None, None)
        return (corners, found.scores, found.extra) if return_uncertainty else (corners, found.scores)

    def _extra(self, outputs: Outputs, kept: torch.Tensor) -> torch.Tensor:
        uncertainty = heads.need_head(outputs, "unc_preds")
        per_box = uncertainty.shape[1] // heads.need_head(outputs, "cls_preds").shape[1]
        return flatten_head(uncertainty, per_box)[0][kept]
