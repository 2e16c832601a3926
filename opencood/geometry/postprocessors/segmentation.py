"""The post-processor of detectors that draw maps of the ground instead of finding boxes (STAMP, CoBEVT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.geometry.postprocessors.ground_truth import merge_by_id, merge_by_iou
from opencood.geometry.postprocessors.settings import required
from opencood.geometry.postprocessors.voxel import Outputs, Samples
from opencood.registry import register


@register("postprocessor", "CameraBevPostprocessor")
class CameraBevPostprocessor:
    """No anchors and no boxes; the labels are maps, which the samples add.

    Args:
        section: the ``postprocess`` section.
        train: accepted like by every component of a data set, without effect.
    """

    def __init__(self, section: Mapping[str, Any], train: bool = False) -> None:
        self.section = section
        self.order = str(required(section, "order"))

    def anchors(self) -> NDArray[np.float64]:
        """Return the (0, 7) anchors: there are none."""
        return np.zeros((0, 7))

    def compact_label(self, gt_box_center: NDArray, mask: NDArray) -> dict[str, NDArray[np.float64]]:
        """Boxes teach nothing."""
        return {}

    generate_label = compact_label

    @staticmethod
    def collate_batch(labels: Sequence[Mapping[str, NDArray]]) -> dict[str, torch.Tensor]:
        """Nothing to stack."""
        return {}

    def post_process(self, data_dict: Samples, output_dict: Mapping[Any, Outputs]) -> tuple[None, None]:
        """There are no boxes."""
        return None, None

    def classes(self, outputs: Outputs) -> dict[str, torch.Tensor]:
        """The class of every cell, ``static`` and ``dynamic`` (B, H, W), of the maps that a detector draws."""
        names = {"static": "static_seg", "dynamic": "dynamic_seg"}
        return {kind: outputs[name].argmax(dim=1) for kind, name in names.items() if name in outputs}

    def generate_gt_bbx(self, data_dict: Samples) -> torch.Tensor:
        """Return (M, 8, 3) corners in the ego frame of the objects of all agents, one per id, inside ``gt_range``."""
        return merge_by_id(data_dict, self.order, required(self.section, "gt_range"))[0]

    def generate_gt_bbx_by_iou(self, data_dict: Samples) -> torch.Tensor:
        """The same where objects have no common ids."""
        return merge_by_iou(data_dict, self.order, required(self.section, "gt_range"))
