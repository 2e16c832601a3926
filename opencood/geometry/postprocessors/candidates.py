"""Head maps of one agent to candidate boxes (spec evaluation.md, section 3, steps 1 to 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from opencood.errors import DataError
from opencood.geometry.coding import correct_direction, decode_boxes, flatten_head

_OLD_NAMES = {"cls_preds": "psm", "reg_preds": "rm", "dir_preds": "dm"}
# Detectors with a first stage publish its heads together, under names of their own (homogeneous.md, section 4).
_STAGES = ("stage1_out", "preds_dict_stage1")
_STAGE_NAMES = {"box_preds": "reg_preds", "dir_cls_preds": "dir_preds"}


@dataclass(frozen=True)
class Candidates:
    """Boxes that passed the score threshold, all tensors parallel.

    Attributes:
        boxes: (N, 7) in the frame of the agent that saw them.
        scores: (N,) float32.
        extra: (N, E) what else is known about each: uncertainty, class label; E may be 0.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    extra: torch.Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, kept: torch.Tensor) -> Candidates:
        """Return the candidates of a mask or of indices."""
        return Candidates(self.boxes[kept], self.scores[kept], self.extra[kept])

    @classmethod
    def join(cls, agents: Sequence[Candidates]) -> Candidates:
        """Return the candidates of all agents, one agent after the other."""
        return cls(
            join([found.boxes for found in agents]),
            join([found.scores for found in agents]),
            join([found.extra for found in agents]),
        )


def first_stage(outputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the heads of the first stage by their usual names; the outputs themselves where there is no such stage."""
    stage = next((outputs[name] for name in _STAGES if name in outputs), None)
    return outputs if stage is None else {_STAGE_NAMES.get(name, name): head for name, head in stage.items()}


def find_head(outputs: Mapping[str, torch.Tensor], name: str) -> torch.Tensor | None:
    """Return a head by its name or its old name (``psm``, ``rm``, ``dm``) as float32; the new name wins."""
    heads = first_stage(outputs)
    found = heads.get(name, heads.get(_OLD_NAMES.get(name, name)))
    return None if found is None else found.float()


def need_head(outputs: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """Return a head like ``find_head``.

    Raises:
        DataError: the model did not give it.
    """
    found = find_head(outputs, name)
    if found is None:
        raise DataError(f"the model gave no '{name}' (or '{_OLD_NAMES.get(name, name)}'), only {', '.join(outputs)}.")
    return found


def row_of(outputs: Mapping[str, Any], row: int) -> dict[str, torch.Tensor]:
    """Return the heads (1, ...) of one agent of a batch of several."""
    maps = first_stage(outputs).items()
    return {name: head[row : row + 1] for name, head in maps if isinstance(head, torch.Tensor) and head.ndim > 2}


def single(head: torch.Tensor) -> torch.Tensor:
    """Return the head unchanged if it holds one sample.

    Raises:
        DataError: it holds another number; boxes of several frames would be mixed.
    """
    if head.shape[0] != 1:
        raise DataError(f"post-processing takes one sample at a time, the head holds {head.shape[0]}.")
    return head


def decode(regression: torch.Tensor, anchors: torch.Tensor | None, kept: torch.Tensor) -> torch.Tensor:
    """Return the (n, 7) boxes of the kept candidates.

    Args:
        regression: (1, 7 K, H, W) deltas to the anchors, or (1, N, 7) boxes of an anchor-free head.
        anchors: (N, 7); None if the head is anchor-free.
        kept: (N,) bool.
    """
    if regression.ndim != 4:
        return regression.reshape(-1, 7)[kept]
    if anchors is None or len(anchors) * 7 != regression.numel():
        count = 0 if anchors is None else len(anchors)
        raise DataError(
            f"the regression head {tuple(regression.shape)} does not fit {count} anchors; "
            "check postprocess.anchor_args (feature_stride, num) against the model."
        )
    return decode_boxes(flatten_head(regression, 7)[0][kept], anchors[kept])


def with_direction(
    boxes: torch.Tensor, bins_head: torch.Tensor, kept: torch.Tensor, bins: int, offset: float
) -> torch.Tensor:
    """Return the boxes turned into the direction bin of highest logit; ``bins_head`` is (1, K * bins, H, W)."""
    chosen = flatten_head(bins_head, bins)[0][kept].argmax(dim=-1)
    yaw = correct_direction(boxes[:, 6], chosen, bins, offset)
    return torch.cat([boxes[:, :6], yaw[:, None]], dim=1)


def rescored(scores: torch.Tensor, iou_head: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return the scores weighted by the fourth power of the predicted overlap, mapped to [0.5, 1]."""
    overlap = (torch.sigmoid(flatten_head(iou_head, 1)[0, :, 0][kept]) + 1) / 2
    return scores * overlap**4


def join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate the agents' tensors on the device of the first."""
    return torch.cat([part.to(parts[0].device) for part in parts])
