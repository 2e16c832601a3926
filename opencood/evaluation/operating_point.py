"""At which score a detection counts: chosen on one split, applied to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opencood.evaluation.matching import FrameMatch


@dataclass(frozen=True)
class OperatingPoint:
    """What a detector does when detections below ``threshold`` are left out."""

    threshold: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        together = self.precision + self.recall
        return 2 * self.precision * self.recall / together if together else 0.0


def best_threshold(frames: Sequence[FrameMatch], iou: float) -> float:
    """The score threshold with the highest F1; infinite when nothing was ever found rightly."""
    scores, hits, truths = _joined(frames, iou)
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(hits[order])
    f1 = 2 * found / (np.arange(1, len(scores) + 1) + truths)
    last_of_score = np.append(np.diff(scores[order]) != 0, True)[: len(scores)]
    f1 = np.where(last_of_score, f1, 0)
    return float(scores[order][np.argmax(f1)]) if f1.any() else float("inf")


def at_threshold(frames: Sequence[FrameMatch], iou: float, threshold: float) -> OperatingPoint:
    """Precision and recall of the detections with at least a score; 0 where there is nothing to divide by."""
    scores, hits, truths = _joined(frames, iou)
    kept = scores >= threshold
    found = float((hits & kept).sum())
    return OperatingPoint(threshold, found / max(int(kept.sum()), 1), found / max(truths, 1))


def _joined(frames: Sequence[FrameMatch], iou: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Scores, whether each detection is right, and the number of objects, over all frames."""
    scores = np.concatenate([np.zeros(0), *(np.asarray(match.scores, np.float64) for match in frames)])
    hits = np.concatenate([np.zeros(0, bool), *(np.asarray(match.true_positive[iou], bool) for match in frames)])
    return scores, hits, sum(match.gt_count for match in frames)
