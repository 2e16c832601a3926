"""The post-processor of multi-class anchor heads (V2X-Real; spec evaluation.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.geometry.anchors import AnchorIndex, multiclass_anchor_grid
from opencood.geometry.coding import encode_boxes, flatten_head
from opencood.geometry.postprocessors import candidates as heads
from opencood.geometry.postprocessors.candidates import Candidates
from opencood.geometry.postprocessors.ground_truth import merge_by_id
from opencood.geometry.postprocessors.settings import MULTICLASS_LIMITS, required
from opencood.geometry.postprocessors.voxel import Outputs, Samples, VoxelPostprocessor
from opencood.geometry.targets import claim_anchors
from opencood.registry import register

# CooPre knows no gt_range and always filters with this one.
_DEFAULT_RANGE = (-100.0, -40.0, -15.0, 100.0, 40.0, 15.0)
IGNORED, NEGATIVE = -1, 0


class MulticlassPostprocessor(VoxelPostprocessor):
    """Anchors, labels, decoding and ground truth of several classes, listed by ``anchor_args.anchor_generator_config``.

    Class ids count from 1 in the order of that list. Candidates are ordered (y, x, class of the anchor, rotation);
    an anchor of one class may predict another. There is no direction correction. The option ``nms_per_class``
    (false) suppresses within each class only. ``max_box_extent`` and ``box_height_range`` default to 100 m and
    [-100, 100] m.
    """

    limits = MULTICLASS_LIMITS
    range_axes = "xy"
    uses_direction_head = False

    @property
    def class_count(self) -> int:
        """Number of classes that the head tells apart."""
        return len(self._classes)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; class id k is entry k - 1."""
        return [str(settings["class_name"]) for settings in self._classes]

    def anchors(self) -> NDArray[np.float64]:
        """Return the (C, H, W, R, 7) anchors (computed once)."""
        return np.stack([index.anchors for index in self._indices])

    def flat_anchors(self) -> NDArray[np.float64]:
        """Return the (N, 7) anchors in the order of candidates."""
        return self.anchors().transpose(1, 2, 0, 3, 4).reshape(-1, 7)

    def generate_label(self, gt_box_center: NDArray, mask: NDArray) -> dict[str, NDArray[np.float64]]:
        """Return the labels of one scene, classes one after the other on the anchor axis.

        Args:
            gt_box_center: (M, 8) boxes, last column the class id.
            mask: (M,) 1 for valid rows.

        Returns:
            ``pos_equal_one`` (H, W, C R): class id, 0 for background, -1 ignored; ``neg_equal_one`` (H, W, C R): 1 for
            background; ``targets`` (H, W, C R, 7).
        """
        boxes = np.asarray(gt_box_center, np.float64)[np.asarray(mask) == 1]
        parts = [
            self._class_label(boxes[boxes[:, 7] == label, :7], label, index, settings)
            for label, (index, settings) in enumerate(zip(self._indices, self._classes, strict=True), start=1)
        ]
        labels, targets = (np.concatenate(part, axis=2) for part in zip(*parts, strict=True))
        return {"pos_equal_one": labels, "neg_equal_one": (labels == NEGATIVE).astype(np.float64), "targets": targets}

    compact_label = generate_label

    def post_process(self, data_dict: Samples, output_dict: Mapping[Any, Outputs]) -> tuple[Any, ...]:
        """Return (M, 8, 3) corners in the ego frame and (M, 2) score and class id, in descending order of score.

        Both are None when no agent has a candidate. Arguments and errors as in the base.
        """
        corners, found = self._fused(data_dict, output_dict)
        return (None, None) if found is None else (corners, torch.cat([found.scores[:, None], found.extra], dim=1))

    def generate_gt_bbx(self, data_dict: Samples) -> Any:
        """Return (M, 8, 3) corners and (M,) class ids of the objects of all agents, one per id, inside ``gt_range``.

        Published facts: the noisy ``transformation_matrix`` projects, and only x and y are tested.
        """
        corners, columns = merge_by_id(data_dict, self.order, self._gt_range, "xy", "transformation_matrix")
        return corners, columns[:, 0]

    def _class_label(
        self, boxes: NDArray, label: int, index: AnchorIndex, settings: Mapping[str, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(H, W, R) labels and (H, W, R, 7) targets of one class."""
        positive, negative = float(settings["matched_threshold"]), float(settings["unmatched_threshold"])
        claims, is_negative = claim_anchors(boxes, index, positive, negative)
        labels = np.where(is_negative, float(NEGATIVE), float(IGNORED))
        claimed = claims >= 0
        labels[claimed] = label
        targets = np.zeros((*claims.shape, 7))
        targets[claimed] = encode_boxes(boxes[claims[claimed]], index.anchors[claimed])
        return labels, targets

    def _candidates(self, outputs: Outputs) -> Candidates:
        logits = flatten_head(heads.single(heads.need_head(outputs, "cls_preds")), len(self._classes))[0]
        scores, labels = torch.sigmoid(logits).max(dim=-1)
        kept = scores > float(required(self.section, "target_args", "score_threshold"))
        regression = heads.need_head(outputs, "reg_preds")
        boxes = heads.decode(regression, self._anchors_on(regression.device), kept)
        return Candidates(boxes, scores[kept], (labels[kept] + 1).to(scores.dtype)[:, None])

    def _suppressed(self, corners: torch.Tensor, found: Candidates) -> torch.Tensor:
        if not self.section.get("nms_per_class", False):
            return super()._suppressed(corners, found)
        kept = []
        for label in found.extra[:, 0].unique():
            members = (found.extra[:, 0] == label).nonzero()[:, 0]
            kept.append(members[super()._suppressed(corners[members], found.take(members))])
        index = torch.cat([*kept, found.scores.new_zeros(0, dtype=torch.long)])
        return index[found.scores[index].argsort(descending=True, stable=True)]

    @cached_property
    def _indices(self) -> list[AnchorIndex]:
        grids = multiclass_anchor_grid(required(self.section, "anchor_args"), self.order)
        return [AnchorIndex(grid, self.order) for grid in grids]

    @property
    def _classes(self) -> Sequence[Mapping[str, Any]]:
        return required(self.section, "anchor_args", "anchor_generator_config")

    @property
    def _gt_range(self) -> Sequence[float]:
        return self.section.get("gt_range", _DEFAULT_RANGE)


@register("postprocessor", "VoxelPostprocessor")
def voxel_postprocessor(section: Mapping[str, Any], train: bool = False) -> VoxelPostprocessor:
    """Anchor boxes of one class, or of several where ``anchor_args.anchor_generator_config`` lists them."""
    several = "anchor_generator_config" in (section.get("anchor_args") or {})
    return (MulticlassPostprocessor if several else VoxelPostprocessor)(section, train)
