"""The post-processor of PIXOR: one box per cell of a map seen from above (spec evaluation.md, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.errors import ConfigError, DataError
from opencood.geometry.boxes import boxes2d_to_corners2d, boxes_to_corners_3d, corners_in_range, project_corners
from opencood.geometry.jit import compiled
from opencood.geometry.nms import rotated_nms
from opencood.geometry.postprocessors import candidates as heads
from opencood.geometry.postprocessors.ground_truth import merge_by_id, merge_by_iou
from opencood.geometry.postprocessors.settings import required
from opencood.geometry.postprocessors.voxel import Outputs, Samples, VoxelPostprocessor
from opencood.registry import register

# Of cos yaw, sin yaw, x offset, y offset, ln length, ln width: published constants of the regression targets.
_MEAN = np.array([0.008, 0.001, 0.202, 0.2, 0.43, 1.368], np.float32)
_STD = np.array([0.866, 0.5, 0.954, 0.668, 0.09, 0.111], np.float32)


@register("postprocessor", "BevPostprocessor")
class BevPostprocessor:
    """Labels, decoding, suppression and ground truth of a head without anchors; order must be ``lwh``.

    Args:
        section: the ``postprocess`` section with ``geometry_param`` of the YAML parser ``load_bev_params``.
        train: accepted like by every component of a data set, without effect.

    Raises:
        ConfigError: another order, or ``geometry_param`` is missing.
    """

    def __init__(self, section: Mapping[str, Any], train: bool = False) -> None:
        self.section = section
        self.order = str(required(section, "order"))
        if self.order != "lwh":
            raise ConfigError(f"postprocess.order: BevPostprocessor needs lwh, got '{self.order}'.")
        geometry = required(section, "geometry_param")
        self.origin = np.array([geometry["L1"], geometry["W1"]], np.float64)
        self.cell = float(geometry["res"]) * float(geometry["downsample_rate"])
        self.shape = (int(geometry["label_shape"][0]), int(geometry["label_shape"][1]))

    collate_batch = staticmethod(VoxelPostprocessor.collate_batch)

    def anchors(self) -> NDArray[np.float64]:
        """Return the (0, 7) anchors: there are none."""
        return np.zeros((0, 7))

    def generate_label(self, gt_box_center: NDArray, mask: NDArray) -> dict[str, NDArray[np.float32]]:
        """Return ``label_map`` (7, X, Y) and ``bev_corners`` (M, 4, 2) of the boxes, zero padded; float32.

        Args:
            gt_box_center: (M, 7) boxes in ``lwh`` order, padded.
            mask: (M,) 1 for valid rows.

        Channel 0 is 1 inside a box; the others are the normalised regression targets, in empty cells those of zeros.
        A cell belongs to a box when its lower corner lies inside or on the border; later boxes win.
        """
        boxes = np.asarray(gt_box_center, np.float64)
        valid = np.asarray(mask) == 1
        corners = boxes_to_corners_3d(boxes, self.order)[:, :4, :2]
        owner = _owners((corners[valid] - self.origin) / self.cell, *self.shape)
        raw = np.zeros((*self.shape, 6))
        inside = owner >= 0
        owned = boxes[valid][owner[inside]]
        offset = owned[:, :2] - (self.origin + np.argwhere(inside) * self.cell)
        yaw = owned[:, 6:7]
        raw[inside] = np.concatenate([np.cos(yaw), np.sin(yaw), offset, np.log(owned[:, 3:5])], axis=1)
        label_map = np.concatenate([inside[..., None], (raw - _MEAN) / _STD], axis=-1).transpose(2, 0, 1)
        padded = np.where(valid[:, None, None], corners, np.float32(0))
        return {"label_map": np.ascontiguousarray(label_map, np.float32), "bev_corners": padded}

    compact_label = generate_label  # small already

    def post_process(
        self, data_dict: Samples, output_dict: Mapping[Any, Outputs]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return (M, 4, 2) footprints in the ego frame and (M,) scores, in descending order of score.

        Args:
            data_dict: agent -> sample with ``transformation_matrix`` (4, 4), agent to ego.
            output_dict: agent -> heads ``cls`` (1, 1, X, Y) and ``reg`` (1, 6, X, Y).

        Both are None when no agent has a candidate above the score threshold.
        """
        corners, scores = [], []
        for agent, outputs in output_dict.items():
            if agent not in data_dict:
                raise DataError(f"the model gave boxes for agent '{agent}', which is not in the sample.")
            boxes, agent_scores = self._candidates(outputs)
            flat = torch.nn.functional.pad(boxes2d_to_corners2d(boxes), (0, 1))  # on the ground: z = 0
            corners.append(project_corners(flat, data_dict[agent]["transformation_matrix"])[..., :2])
            scores.append(agent_scores)
        if not any(len(found) for found in scores):
            return None, None
        joined, joined_scores = heads.join(corners), heads.join(scores)
        kept = rotated_nms(joined, joined_scores, float(required(self.section, "nms_thresh"))).long()
        kept = kept[corners_in_range(joined[kept], required(self.section, "gt_range"), axes="xy")]
        return joined[kept], joined_scores[kept]

    def generate_gt_bbx(self, data_dict: Samples) -> torch.Tensor:
        """Return (M, 8, 3) corners in the ego frame of the objects of all agents, one per id, inside ``gt_range``."""
        return merge_by_id(data_dict, self.order, required(self.section, "gt_range"))[0]

    def generate_gt_bbx_by_iou(self, data_dict: Samples) -> torch.Tensor:
        """Return (M, 8, 3) corners where objects have no common ids: overlapping boxes are one object."""
        return merge_by_iou(data_dict, self.order, required(self.section, "gt_range"))

    def _candidates(self, outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 5) boxes ``x, y, length, width, yaw`` of one agent and their (n,) scores, cells in row-major order."""
        scores = torch.sigmoid(heads.single(heads.need_head(outputs, "cls")))[0, 0]
        kept = scores > float(required(self.section, "target_args", "score_threshold"))
        regression = heads.need_head(outputs, "reg")[0].permute(1, 2, 0)[kept]
        cosine, sine, dx, dy, length, width = (
            regression * regression.new_tensor(_STD) + regression.new_tensor(_MEAN)
        ).T
        corner = kept.nonzero() * self.cell + regression.new_tensor(self.origin)
        yaw = torch.atan2(sine, cosine)
        return torch.stack([corner[:, 0] + dx, corner[:, 1] + dy, length.exp(), width.exp(), yaw], dim=1), scores[kept]


@compiled
def _owners(polygons: NDArray, rows: int, columns: int) -> NDArray:
    """Return (rows, columns) the last convex polygon (N, 4, 2), in cells, that holds the point (i, j); -1: none."""
    owners = np.full((rows, columns), -1, np.int32)
    for n in range(len(polygons)):
        x, y = polygons[n, :, 0], polygons[n, :, 1]
        for i in range(max(0, int(np.ceil(x.min()))), min(rows - 1, int(np.floor(x.max()))) + 1):
            for j in range(max(0, int(np.ceil(y.min()))), min(columns - 1, int(np.floor(y.max()))) + 1):
                left = right = True
                for k in range(4):
                    after = (k + 1) % 4
                    side = (x[after] - x[k]) * (j - y[k]) - (y[after] - y[k]) * (i - x[k])
                    left, right = left and side >= 0, right and side <= 0
                if left or right:
                    owners[i, j] = n
    return owners
