"""True and false positives of one frame (spec evaluation.md, section 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.iou import bev_iou
from opencood.geometry.polygon_kernels import match_greedily


@dataclass(frozen=True)
class FrameMatch:
    """What one frame contributes to average precision.

    Attributes:
        scores: (N,) of the detections, descending, equal ones in input order.
        true_positive: IoU threshold -> (N,) bool in the same order; the others are false positives.
        gt_count: ground truths of the frame.
        order: (N,) input index of each sorted detection.
    """

    scores: NDArray
    true_positive: Mapping[float, NDArray[np.bool_]]
    gt_count: int
    order: NDArray[np.int64]


def match_frame(
    det_corners: NDArray | None, scores: NDArray | None, gt_corners: NDArray | None, thresholds: Sequence[float]
) -> FrameMatch:
    """Match detections with ground truths by footprint IoU.

    Detections in descending score each take the ground truth of highest IoU among those still free; it counts if that
    IoU is at least the threshold. The IoU is evaluated once for all thresholds.

    Args:
        det_corners: (N, 8, 3) or (N, 4, 2), metres; None when the detector returned nothing.
        scores: (N,).
        gt_corners: (M, 8, 3) or (M, 4, 2) in the same frame.
        thresholds: IoU thresholds, compared in float32.

    Raises:
        ValueError: numbers of detections and scores differ.
    """
    detections = np.zeros((0, 4, 2), np.float32) if det_corners is None else np.asarray(det_corners)
    truths = np.zeros((0, 4, 2), np.float32) if gt_corners is None else np.asarray(gt_corners)
    values = np.zeros(0, np.float32) if scores is None else np.asarray(scores).reshape(-1)
    if len(values) != len(detections):
        raise ValueError(f"{len(detections)} detections but {len(values)} scores")
    order = np.argsort(-values, kind="stable")
    iou = bev_iou(detections[order], truths)
    hits = {float(threshold): match_greedily(iou, np.float32(threshold)) for threshold in thresholds}
    return FrameMatch(values[order], hits, len(truths), order)
