"""Average precision over many frames, in both published orders (spec evaluation.md, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from opencood.evaluation.matching import FrameMatch


@dataclass(frozen=True)
class APResult:
    """Area under the precision-recall curve, and the curve with its end points (VOC 2010, all points).

    Attributes:
        ap: 0 to 1; NaN when there was no ground truth at all, which makes recall meaningless.
        recall: from 0 to 1, one more point at each end than there are detections.
        precision: made non-increasing, parallel to ``recall``.
    """

    ap: float
    recall: list[float]
    precision: list[float]


def average_precision(frames: Sequence[FrameMatch], threshold: float, global_sort: bool) -> APResult:
    """Return the average precision at one of the IoU thresholds that the frames were matched with.

    Args:
        global_sort: True orders all detections by score (the correct AP). False walks frame after frame, descending
            inside each: the original OpenCOOD figure, which differs by points. Reports must say which one they show.
    """
    hits = np.concatenate([np.zeros(0, bool), *(frame.true_positive[float(threshold)] for frame in frames)])
    if global_sort:
        scores = np.concatenate([np.zeros(0), *(frame.scores for frame in frames)])
        hits = hits[np.argsort(-scores, kind="stable")]
    return ap_of_hits(hits, sum(frame.gt_count for frame in frames))


def ap_of_hits(hits: ArrayLike, gt_count: int) -> APResult:
    """Return the average precision of detections in their final order, hits (1) and misses, of ``gt_count`` truths."""
    found = np.cumsum(np.asarray(hits, np.float64))
    precision = found / np.arange(1, len(found) + 1)
    recall = found / gt_count if gt_count else np.full(len(found), np.nan)
    result = voc_ap(recall, precision)
    return result if gt_count else APResult(float("nan"), result.recall, result.precision)


def voc_ap(recall: ArrayLike, precision: ArrayLike) -> APResult:
    """Return the area under a precision-recall curve after making precision non-increasing from the right.

    Args:
        recall: (N,) non-decreasing.
        precision: (N,).
    """
    recalls = np.concatenate([[0.0], np.asarray(recall, np.float64), [1.0]])
    raw = np.concatenate([[0.0], np.asarray(precision, np.float64), [0.0]])
    envelope = np.maximum.accumulate(raw[::-1])[::-1]
    area = float(np.sum(np.diff(recalls) * envelope[1:]))
    return APResult(area, recalls.tolist(), envelope.tolist())
