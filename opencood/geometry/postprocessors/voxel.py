"""The post-processor of single-class anchor heads and anchor-free heads (spec evaluation.md, sections 2 to 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.batch import Deferred
from opencood.errors import ConfigError, DataError
from opencood.geometry.anchors import AnchorIndex, anchor_grid
from opencood.geometry.boxes import (
    boxes_to_corners_3d,
    corners_below_size,
    corners_in_height,
    corners_in_range,
    project_corners,
)
from opencood.geometry.coding import flatten_head
from opencood.geometry.nms import rotated_nms
from opencood.geometry.postprocessors import candidates as heads
from opencood.geometry.postprocessors.candidates import Candidates
from opencood.geometry.postprocessors.ground_truth import merge_by_id, merge_by_iou
from opencood.geometry.postprocessors.settings import SINGLE_CLASS_LIMITS, required
from opencood.geometry.preprocessors.collate import stack
from opencood.geometry.targets import AnchorLabels, PendingLabels, compact_targets

Outputs = Mapping[str, torch.Tensor]
Samples = Mapping[Any, Mapping[str, Any]]


class VoxelPostprocessor:
    """Anchors, labels, decoding, suppression and evaluation ground truth of a single-class detector.

    Args:
        section: the ``postprocess`` section after the YAML parser. Beside the published keys it may hold
            ``max_box_extent`` (6.0 m) and ``box_height_range`` ([-3, 1] m); boxes beyond them are dropped, null
            keeps all.
        train: accepted like by every component of a data set, without effect.
    """

    limits = SINGLE_CLASS_LIMITS
    range_axes = "xyz"
    uses_iou_head = True
    uses_direction_head = True

    def __init__(self, section: Mapping[str, Any], train: bool = False) -> None:
        self.section = section
        self.order = str(required(section, "order"))
        self.limits = self.limits.overridden(section)
        self._anchors_by_device: dict[torch.device, torch.Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_anchors_by_device": {}}

    @property
    def class_count(self) -> int:
        """Number of classes that the head tells apart."""
        return 1

    # Labels

    def anchors(self) -> NDArray[np.float64]:
        """Return the (H, W, K, 7) anchors (computed once)."""
        return self._anchor_index.anchors

    def flat_anchors(self) -> NDArray[np.float64]:
        """Return the (N, 7) anchors in the order of candidates."""
        return self.anchors().reshape(-1, 7)

    def generate_label(self, gt_box_center: NDArray, mask: NDArray) -> dict[str, NDArray[np.float64]]:
        """Return ``pos_equal_one``, ``neg_equal_one`` (H, W, K) and ``targets`` (H, W, 7 K) of one scene.

        Args:
            gt_box_center: (M, 7) boxes, padded.
            mask: (M,) 1 for valid rows.
        """
        return dict(self.compact_label(gt_box_center, mask))

    def compact_label(self, gt_box_center: NDArray, mask: NDArray) -> Mapping[str, NDArray[np.float64]]:
        """Return the labels of ``generate_label`` in the form that samples keep until they are collated."""
        thresholds = [float(required(self.section, "target_args", name)) for name in ("pos_threshold", "neg_threshold")]
        return compact_targets(gt_box_center, mask, self._anchor_index, self.order, *thresholds)

    @staticmethod
    def collate_batch(labels: Sequence[Mapping[str, NDArray]]) -> dict[str, torch.Tensor] | Deferred:
        """Stack the labels of several scenes along a new first axis; compact ones are written out when asked for."""
        compact = [label for label in labels if isinstance(label, AnchorLabels)]
        if len(compact) < len(labels):
            return stack([dict(label) for label in labels])
        return Deferred({}, PendingLabels.of(compact))

    # Boxes

    def post_process(self, data_dict: Samples, output_dict: Mapping[Any, Outputs]) -> tuple[Any, ...]:
        """Return (M, 8, 3) corners in the ego frame and (M,) scores, in descending order of score.

        Args:
            data_dict: agent -> sample with ``transformation_matrix`` (4, 4), agent to ego.
            output_dict: agent -> heads ``cls_preds``, ``reg_preds``, optional ``dir_preds`` and ``iou_preds``;
                agents are fused in this order.

        Both are None when no agent has a candidate above the score threshold.

        Raises:
            DataError: an agent has no sample, a head is missing or does not fit the anchors.
        """
        corners, found = self._fused(data_dict, output_dict)
        return (None, None) if found is None else (corners, found.scores)

    def post_process_stage1(self, outputs: Outputs) -> tuple[list[Any] | None, list[Any] | None, list[Any] | None]:
        """Return what every agent of a batch sees by itself, in its own frame: lists over agents.

        The lists hold (n, 8, 3) corners, (n, 7) boxes and (n, u) uncertainties (u is 0 without such a head) after score
        threshold, direction and suppression; all three are None when no agent has a candidate.

        Args:
            outputs: heads (N, ...) of N agents.
        """
        agents = self.proposals(outputs)
        if not any(len(found) for found in agents):
            return None, None, None
        corners = [boxes_to_corners_3d(found.boxes, self.order) for found in agents]
        return corners, [found.boxes for found in agents], [found.extra for found in agents]

    def proposals(self, outputs: Outputs) -> list[Candidates]:
        """Return what every agent of a batch (N, ...) sees by itself, in its own frame, by descending score."""
        agents = [self._candidates(heads.row_of(outputs, n)) for n in range(len(heads.need_head(outputs, "cls_preds")))]
        return [found.take(self._suppressed(boxes_to_corners_3d(found.boxes, self.order), found)) for found in agents]

    # Ground truth

    def generate_gt_bbx(self, data_dict: Samples) -> torch.Tensor:
        """Return (M, 8, 3) corners in the ego frame of the objects of all agents, one per id, inside ``gt_range``."""
        return merge_by_id(data_dict, self.order, self._gt_range)[0]

    def generate_gt_bbx_by_iou(self, data_dict: Samples) -> torch.Tensor:
        """Return (M, 8, 3) corners where objects have no common ids (DAIR-V2X): overlapping boxes are one object."""
        return merge_by_iou(data_dict, self.order, self._gt_range)

    # Steps

    def _fused(self, data_dict: Samples, output_dict: Mapping[Any, Outputs]) -> tuple[Any, Candidates | None]:
        """Candidates of all agents with their corners in the ego frame, after all filters; None without candidates."""
        corners, agents = [], []
        for agent, outputs in output_dict.items():
            if agent not in data_dict:
                raise DataError(f"the model gave boxes for agent '{agent}', which is not in the sample.")
            found = self._candidates(outputs)
            own = boxes_to_corners_3d(found.boxes, self.order)
            corners.append(project_corners(own, data_dict[agent]["transformation_matrix"]))
            agents.append(found)
        if not any(len(found) for found in agents):
            return None, None
        joined, together = heads.join(corners), Candidates.join(agents)
        kept = self._selected(joined, together)
        return joined[kept], together.take(kept)

    def _candidates(self, outputs: Outputs) -> Candidates:
        """Candidates of one agent above the score threshold, in the order of the head."""
        scores = torch.sigmoid(flatten_head(heads.single(heads.need_head(outputs, "cls_preds")), 1)[0, :, 0])
        kept = scores > float(required(self.section, "target_args", "score_threshold"))
        regression = heads.need_head(outputs, "reg_preds")
        boxes = heads.decode(regression, self._anchors_on(regression.device) if regression.ndim == 4 else None, kept)
        scores = scores[kept]
        directions = heads.find_head(outputs, "dir_preds")
        if directions is not None:
            boxes = self.turned(boxes, directions, kept)
        overlap = heads.find_head(outputs, "iou_preds") if self.uses_iou_head else None
        if overlap is not None:
            scores = heads.rescored(scores, overlap, kept)
        return Candidates(boxes, scores, self._extra(outputs, kept))

    def turned(self, boxes: torch.Tensor, directions: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return the (n, 7) boxes of the kept candidates, turned the way their direction head (1, K * bins, H, W) says.

        Raises:
            ConfigError: ``dir_args`` is missing.
        """
        return heads.with_direction(boxes, directions, kept, *self._direction_bins)

    def _extra(self, outputs: Outputs, kept: torch.Tensor) -> torch.Tensor:
        """(n, E) further columns of the kept candidates; none here."""
        return heads.need_head(outputs, "cls_preds").new_zeros((int(kept.sum()), 0))

    def _selected(self, corners: torch.Tensor, found: Candidates) -> torch.Tensor:
        """Indices that survive the limits on size and height, suppression and range, in descending order of score."""
        possible = corners_below_size(corners, self.limits.extent)
        possible &= corners_in_height(corners, self.limits.lowest, self.limits.highest)
        index = possible.nonzero()[:, 0]
        index = index[self._suppressed(corners[index], found.take(index))]
        return index[corners_in_range(corners[index], self._gt_range, self.range_axes)]

    def _suppressed(self, corners: torch.Tensor, found: Candidates) -> torch.Tensor:
        return rotated_nms(corners, found.scores, float(required(self.section, "nms_thresh"))).long()

    # Derived from the section

    @cached_property
    def _anchor_index(self) -> AnchorIndex:
        return AnchorIndex(anchor_grid(required(self.section, "anchor_args"), self.order), self.order)

    def _anchors_on(self, device: torch.device) -> torch.Tensor:
        """(N, 7) float32 anchors in the order of candidates."""
        if device not in self._anchors_by_device:
            flat = torch.as_tensor(self.flat_anchors(), dtype=torch.float32, device=device)
            self._anchors_by_device[device] = flat
        return self._anchors_by_device[device]

    @property
    def _gt_range(self) -> Sequence[float]:
        return required(self.section, "gt_range")

    @property
    def _direction_bins(self) -> tuple[int, float]:
        """Number of bins and where the first starts, radians."""
        arguments = self.section.get("dir_args")
        if not isinstance(arguments, Mapping):
            raise ConfigError(
                "postprocess: the model has a direction head, so 'dir_args' (num_bins, dir_offset) is needed."
            )
        return int(required(self.section, "dir_args", "num_bins")), float(
            required(self.section, "dir_args", "dir_offset")
        )
