"""What a collaborator of late fusion sends: its candidate boxes, already turned, with what scores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from opencood.communication import Message
from opencood.geometry.coding import flatten_head
from opencood.geometry.postprocessors import candidates as heads


class CandidateBoxes:
    """Reduces the heads of one agent to its candidates above the score threshold.

    The result has the form of anchor-free heads, which the post-processor takes like any other, so that fusing what was
    received gives the boxes that fusing the heads themselves would give (scores up to their last bit).

    Args:
        processor: the data set's post-processor (``section``, ``class_count``, ``flat_anchors()``, ``turned()``).
        by_modality: those of modalities that have their own anchors.
    """

    def __init__(self, processor: Any, by_modality: Mapping[str, Any] | None = None) -> None:
        self._processor = processor
        self._anchors: Tensor | None = None
        self._own = {name: CandidateBoxes(own) for name, own in (by_modality or {}).items()}

    def of(self, modality: str) -> CandidateBoxes:
        """What reduces the heads of agents of a modality."""
        return self._own.get(modality, self)

    def __call__(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``cls_preds`` (1, classes, 1, n) logits, ``reg_preds`` (1, n, 7) own-frame boxes, and what else there is."""
        section = self._processor.section
        logits = flatten_head(heads.single(heads.need_head(outputs, "cls_preds")), self._processor.class_count)[0]
        kept = torch.sigmoid(logits).amax(dim=-1) > float(section["target_args"]["score_threshold"])
        regression = heads.need_head(outputs, "reg_preds")
        boxes = heads.decode(regression, self._anchors_like(regression) if regression.ndim == 4 else None, kept)
        directions = heads.find_head(outputs, "dir_preds") if self._processor.uses_direction_head else None
        if directions is not None:
            boxes = self._processor.turned(boxes, directions, kept)
        reduced = {"cls_preds": logits[kept].T[None, :, None], "reg_preds": boxes[None]}
        overlap = heads.find_head(outputs, "iou_preds")
        if overlap is not None:
            reduced["iou_preds"] = flatten_head(overlap, 1)[0, :, 0][kept].reshape(1, 1, 1, -1)
        uncertainty = heads.find_head(outputs, "unc_preds")
        if uncertainty is not None:
            per_box = uncertainty.shape[1] // heads.need_head(outputs, "cls_preds").shape[1]
            reduced["unc_preds"] = flatten_head(uncertainty, per_box)[0][kept].T.reshape(1, per_box, 1, -1)
        return reduced

    def _anchors_like(self, regression: Tensor) -> Tensor:
        if self._anchors is None or self._anchors.device != regression.device:
            flat = self._processor.flat_anchors()
            self._anchors = torch.as_tensor(flat, dtype=torch.float32, device=regression.device)
        return self._anchors


def candidates_message(tensors: Mapping[str, Tensor]) -> Message:
    """What :class:`CandidateBoxes` made as a message; to save bytes the least likely candidates may be left out."""
    axes = {name: 1 if name == "reg_preds" else 3 for name in tensors}
    likely = tensors["cls_preds"].amax(dim=(0, 1, 2))
    return Message(tensors, kind="boxes", entries=axes, importance=likely)
