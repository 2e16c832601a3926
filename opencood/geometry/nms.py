"""Non-maximum suppression of rotated boxes (spec evaluation.md, section 4)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from opencood.geometry import polygon_kernels
from opencood.geometry.iou import footprints

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def rotated_nms(corners: Array, scores: Array, threshold: float, max_candidates: int = 1000) -> Array:
    """Return the int32 indices of the boxes that stay, in descending order of score.

    Greedy: the best box stays, all others whose footprint IoU with it is strictly greater than ``threshold`` go. At
        most
    the ``max_candidates`` best enter; among equal scores the larger index comes first.

    Args:
        corners: (N, 8, 3) corners or (N, 4, 2) convex polygons.
        scores: (N,).
    """
    if isinstance(corners, torch.Tensor):
        kept = rotated_nms(corners.detach().cpu().numpy(), scores.detach().cpu().numpy(), threshold, max_candidates)
        return torch.as_tensor(kept, device=corners.device)
    order = np.argsort(scores, kind="stable")[::-1][:max_candidates]
    kept = polygon_kernels.suppress(footprints(corners)[order], np.float32(threshold))
    return order[kept].astype(np.int32)
