"""Evaluation of a part of what was detected: distance bands and classes, as pure functions (spec evaluation.md, 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.matching import FrameMatch, match_frame

# Metres from the ego; None: everything.
Bands = Mapping[str, tuple[float, float] | None]
# As CooPre reports them.
DISTANCE_BANDS: Bands = {
    "short": (0.0, 30.0),
    "middle": (30.0, 50.0),
    "long": (50.0, 100.0),
    "all": None,
}


def in_band(corners: NDArray, band: Sequence[float] | None) -> NDArray[np.bool_]:
    """Return (N,) True for (N, 8, 3) or (N, 4, 2) boxes whose footprint's centroid is strictly between two distances.

    Distances are metres from the origin of the frame (the ego) seen from above; None accepts all.
    """
    values = np.asarray(corners, np.float64)
    if band is None or not len(values):
        return np.ones(len(values), bool)
    distance = np.linalg.norm(values[:, :4, :2].mean(axis=1), axis=-1)
    return (band[0] < distance) & (distance < band[1])


def in_rectangle(corners: NDArray, x: float, y: float) -> NDArray[np.bool_]:
    """Return (N,) True for (N, 8, 3) boxes whose corners all lie within x and y metres of the ego, along its axes."""
    values = np.asarray(corners, np.float32)[..., :2]
    inside = np.abs(values) <= np.array([x, y], np.float32)
    return np.all(inside.reshape(len(values), -1), axis=1)


def only(detections: DetectionSet, keep: Callable[[NDArray], NDArray[np.bool_]]) -> DetectionSet:
    """The detections and ground truths whose corners (N, 8, 3) a rule keeps."""
    frames = tuple(frame.take(keep(frame.boxes), keep(frame.ground_truth)) for frame in detections)
    return replace(detections, frames=frames)


def match_frame_in_band(
    det_corners: NDArray | None,
    scores: NDArray | None,
    gt_corners: NDArray,
    thresholds: Sequence[float],
    band: Sequence[float] | None,
    silent_frames_count_all: bool = False,
) -> FrameMatch:
    """Match the detections and ground truths of a distance band only.

    Args:
        silent_frames_count_all: a frame whose detector returned None adds all its ground truths to every band. The
            published figures do; it punishes each band for objects that are not in it.
    """
    if det_corners is None or scores is None:
        counted = gt_corners if silent_frames_count_all else gt_corners[in_band(gt_corners, band)]
        return match_frame(None, None, counted, thresholds)
    kept = in_band(det_corners, band)
    return match_frame(det_corners[kept], np.asarray(scores)[kept], gt_corners[in_band(gt_corners, band)], thresholds)


def match_frame_of_class(
    det_corners: NDArray | None,
    scores: NDArray | None,
    det_labels: NDArray | None,
    gt_corners: NDArray,
    gt_labels: NDArray,
    label: int,
    thresholds: Sequence[float],
) -> FrameMatch:
    """Match the detections and ground truths of one class (1-based label) only; None for a frame without detections."""
    truths = gt_corners[np.asarray(gt_labels) == label]
    if det_corners is None or scores is None or det_labels is None:
        return match_frame(None, None, truths, thresholds)
    kept = np.asarray(det_labels) == label
    return match_frame(det_corners[kept], np.asarray(scores)[kept], truths, thresholds)


def mean_over_classes(values: Iterable[float]) -> float:
    """Return the plain mean over classes (mAP); classes without ground truth (NaN) are left out."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
