"""The post-processors of CIA-SSD and of the first stage of FPV-RCNN (spec evaluation.md 3, homogeneous.md 4 and 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from opencood.geometry.boxes import boxes_to_corners_3d, limit_period
from opencood.geometry.coding import flatten_head
from opencood.geometry.postprocessors.candidates import Candidates, need_head, row_of
from opencood.geometry.postprocessors.settings import required
from opencood.geometry.postprocessors.voxel import Outputs, Samples, VoxelPostprocessor
from opencood.geometry.refinement import corrected
from opencood.registry import register

SECOND_STAGE = "stage2_out"
SIZES = (1.0, 10.0)  # metres; a box of FPV-RCNN with a side outside is no car


@register("postprocessor", "CiassdPostprocessor")
class CiassdPostprocessor(VoxelPostprocessor):
    """Post-processor of ``stage1_out`` (or ``preds_dict_stage1``), with two bins of directions, below and above 0.

    Such heads are trained with ``ciassd_loss``, which knows no offset; ``dir_args`` is not read.
    """

    def turned(self, boxes: torch.Tensor, directions: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return the (n, 7) boxes with their yaw in the half circle of the likelier bin, in [-pi, pi)."""
        positive = flatten_head(directions, 2)[0][kept].argmax(dim=-1) == 1
        yaw = limit_period(boxes[:, 6], 0.5, 2 * math.pi)
        turned = torch.where((yaw > 0) == positive, yaw, limit_period(yaw + math.pi, 0.5, 2 * math.pi))
        return torch.cat([boxes[:, :6], turned[:, None]], dim=1)


@register("postprocessor", "FpvrcnnPostprocessor")
class FpvrcnnPostprocessor(CiassdPostprocessor):
    """Post-processor of the first stage of FPV-RCNN, which gives boxes of every agent of a scene.

    Boxes with a side of 1 m or less, or 10 m or more, are dropped. Without a second stage the agents' boxes are fused
    like those of late fusion; with one (``stage2_out``) its corrected boxes count, and its scores, weighted by the
    fourth power of the overlap it predicts.
    """

    def post_process(self, data_dict: Samples, output_dict: Mapping[Any, Outputs]) -> tuple[Any, ...]:
        """As the base; outputs of N agents need ``pairwise_t_matrix`` (1, L, L, 4, 4) in their sample."""
        second = [given for given in output_dict.values() if SECOND_STAGE in given]
        if second:
            return self._second(second[0])
        samples: dict[Any, Mapping[str, Any]] = {}
        outputs: dict[Any, Outputs] = {}
        for name, given in output_dict.items():
            agents = len(need_head(given, "cls_preds"))
            for row in range(agents):
                outputs[name, row] = row_of(given, row)
                samples[name, row] = data_dict[name]
                if agents > 1:
                    samples[name, row] = {"transformation_matrix": data_dict[name]["pairwise_t_matrix"][0, row, 0]}
        return super().post_process(samples, outputs)

    def _second(self, outputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Boxes and scores of the second stage of one scene; its boxes are in the frame of the ego."""
        heads = outputs[SECOND_STAGE]
        boxes = corrected(outputs["boxes_fused"], heads["rcnn_reg"].float())
        overlap = ((heads["rcnn_iou"].float() + 1) / 2).clamp(0, 1)
        scores = (torch.sigmoid(heads["rcnn_cls"].float()) * overlap**4)[:, 0]
        kept = scores > float(required(self.section, "target_args", "score_threshold"))
        found = Candidates(boxes[kept], scores[kept], scores.new_zeros(int(kept.sum()), 0))
        if not len(found):
            return None, None
        corners = boxes_to_corners_3d(found.boxes, self.order)
        chosen = self._selected(corners, found)
        return corners[chosen], found.scores[chosen]

    def _candidates(self, outputs: Outputs) -> Candidates:
        found = super()._candidates(outputs)
        sizes = found.boxes[:, 3:6]
        return found.take(((sizes > SIZES[0]) & (sizes < SIZES[1])).all(dim=1))
