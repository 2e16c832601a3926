"""How sure are we? Bootstrap intervals of average precision and of differences between two detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opencood.errors import DataError
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.matching import FrameMatch
from opencood.evaluation.report import match_all


@dataclass(frozen=True)
class Interval:
    """A value with its two-sided percentile bootstrap interval."""

    value: float
    lower: float
    upper: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.value:+.3f} [{self.lower:+.3f}, {self.upper:+.3f}]"


def ap_interval(
    frames: Sequence[FrameMatch],
    threshold: float,
    generator: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of the globally sorted average precision, resampling whole frames with replacement."""
    weights = frame_weights(len(frames), resamples, generator)
    return _interval(weighted_ap(frames, threshold, weights), level)


def difference_interval(
    better: Sequence[FrameMatch],
    worse: Sequence[FrameMatch],
    threshold: float,
    generator: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Interval of AP(better) - AP(worse). Both saw the same frames, so each resample takes the same frames of both.

    Raises:
        DataError: the two runs do not hold the same frames.
    """
    if [match.gt_count for match in better] != [match.gt_count for match in worse]:
        raise DataError(
            "bootstrap: the two runs differ in frames or ground truth, so they cannot be compared in pairs."
        )
    weights = frame_weights(len(better), resamples, generator)
    return _interval(weighted_ap(better, threshold, weights) - weighted_ap(worse, threshold, weights), level)


def seeds_interval(values: np.ndarray, generator: np.random.Generator, level: float = 0.95) -> Interval:
    """Interval of the mean over trainings with different seeds, resampling trainings and frames.

    Args:
        values: (S, 1 + R) one row for each training, one column for each resample of frames, column 0 without
            resampling, as ``weighted_ap`` gives them with the same frame weights for all.
    """
    seeds, columns = values.shape
    drawn = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=columns - 1).T / seeds
    weights = np.concatenate([np.full((seeds, 1), 1 / seeds), drawn], axis=1)
    return _interval((values * weights).sum(axis=0), level)


def resampled_ap(detections: DetectionSet, thresholds: Sequence[float], weights: np.ndarray) -> dict[float, np.ndarray]:
    """Globally sorted AP (1 + R,) of every resample by IoU threshold.

    Where there are several classes it is the plain mean over those that have ground truth in the resample.
    """
    parts = [detections.of_class(label) for label in detections.class_names] or [detections]
    matches = [match_all(part, thresholds) for part in parts]
    return {t: _mean_known(np.stack([weighted_ap(frames, t, weights) for frames in matches])) for t in thresholds}


def interval_of(values: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval of resampled values (1 + R,), column 0 without resampling."""
    return _interval(values, level)


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean (N,) over the rows of (K, N) that are numbers; NaN where none is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / np.where(known.any(axis=0), known.sum(axis=0), np.nan)


def frame_weights(frames: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each frame enters each resample: (1 + resamples, frames); row 0 is the original sample, all ones."""
    if not frames:
        raise DataError("bootstrap: there is no frame to resample.")
    drawn = generator.multinomial(frames, np.full(frames, 1 / frames), size=resamples)
    return np.concatenate([np.ones((1, frames), drawn.dtype), drawn])


def weighted_ap(frames: Sequence[FrameMatch], threshold: float, weights: np.ndarray) -> np.ndarray:
    """Globally sorted average precision of every resample at once, (R,) for ``weights`` (R, frames).

    A frame of weight w counts as w copies. Copies of a true positive follow each other in the sorted list, where
    precision only rises, so the last copy decides the envelope. Between true positives precision falls and recall
    stays, so only their places count: what is found and predicted up to each is a product of the weights with what
    every frame has there. NaN where a resample holds no ground truth.
    """
    counts = [len(match.scores) for match in frames]
    scores = np.concatenate([np.zeros(0), *(np.asarray(match.scores, np.float64) for match in frames)])
    hits = np.concatenate([np.zeros(0, bool), *(np.asarray(match.true_positive[threshold], bool) for match in frames)])
    order = np.argsort(-scores, kind="stable")
    owner, hits = np.repeat(np.arange(len(frames)), counts)[order], hits[order]
    places = np.flatnonzero(hits)
    found, predicted = (
        weights @ _up_to(places, ranks, owner[ranks], len(frames)) for ranks in (places, np.arange(len(hits)))
    )
    truths = weights @ np.array([match.gt_count for match in frames], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(predicted > 0, found / predicted, 0.0)
        recall = found / truths[:, None]
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area = (np.diff(recall, axis=1, prepend=0.0) * envelope).sum(axis=1)
    return np.where(truths > 0, area, np.nan)


def _up_to(places: np.ndarray, ranks: np.ndarray, owner: np.ndarray, frames: int) -> np.ndarray:
    """(frames, K): how many of the detections at ``ranks`` each frame has up to each of K ascending places."""
    counts = np.zeros((frames, len(places) + 1))
    np.add.at(counts, (owner, np.searchsorted(places, ranks)), 1.0)  # the last column: behind all places
    return counts[:, :-1].cumsum(axis=1)


def _interval(values: np.ndarray, level: float) -> Interval:
    tail = (1 - level) / 2
    defined = values[1:][np.isfinite(values[1:])]
    lower, upper = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return Interval(float(values[0]), float(lower), float(upper), level)
