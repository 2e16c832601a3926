"""Average precision in both orders, in bands and by class."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.evaluation.average_precision import ap_of_hits, average_precision, voc_ap
from opencood.evaluation.matching import FrameMatch
from opencood.evaluation.subsets import (
    DISTANCE_BANDS,
    in_band,
    match_frame_in_band,
    match_frame_of_class,
    mean_over_classes,
)
from opencood.geometry.boxes import boxes2d_to_corners2d


def frame(scores: list[float], hits: list[int], truths: int) -> FrameMatch:
    return FrameMatch(np.array(scores), {0.5: np.array(hits, bool)}, truths, np.arange(len(scores)))


def plain_ap(hits: list[int], truths: int) -> float:
    """Area under the step curve whose precision at each hit is the best at that recall or beyond."""
    precision = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    return sum(max(precision[n:]) for n, hit in enumerate(hits) if hit) / truths


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 1), max_size=30), st.integers(0, 5))
def test_equals_the_plain_area(hits: list[int], missed: int) -> None:
    truths = sum(hits) + missed
    result = ap_of_hits(hits, truths)

    if truths:
        assert result.ap == pytest.approx(plain_ap(hits, truths))
    else:
        assert math.isnan(result.ap)
    assert len(result.recall) == len(result.precision) == len(hits) + 2
    assert result.precision == sorted(result.precision, reverse=True)


def test_the_two_orders_differ_and_evaluating_twice_does_not() -> None:
    frames = [frame([0.3, 0.2], [0, 0], 1), frame([0.9, 0.8], [1, 1], 2)]
    for _ in range(2):
        assert average_precision(frames, 0.5, global_sort=True).ap == pytest.approx(2 / 3)
        assert average_precision(frames, 0.5, global_sort=False).ap == pytest.approx(1 / 3)


def test_equal_scores_keep_the_order_of_frames() -> None:
    frames = [frame([0.5], [1], 1), frame([0.5], [0], 1)]
    assert average_precision(frames, 0.5, global_sort=True).ap == 0.5


def test_no_frames_no_truths_no_detections() -> None:
    assert math.isnan(average_precision([], 0.5, global_sort=True).ap)
    assert math.isnan(average_precision([frame([0.5], [0], 0)], 0.5, global_sort=True).ap)
    assert average_precision([frame([], [], 3)], 0.5, global_sort=False).ap == 0


def test_curve_has_both_end_points() -> None:
    result = voc_ap([0.5, 0.5, 1.0], [1.0, 0.5, 2 / 3])
    assert result.recall == [0, 0.5, 0.5, 1, 1]
    assert result.precision == pytest.approx([1, 1, 2 / 3, 2 / 3, 0])
    assert result.ap == pytest.approx(0.5 + 0.5 * 2 / 3)


BOXES = boxes2d_to_corners2d(np.array([[10.0, 0, 4, 2, 0], [0, 30.0, 4, 2, 0], [0, -45.0, 4, 2, 0]]))


def test_bands_are_open_on_both_sides() -> None:
    inside = {name: in_band(BOXES, band).tolist() for name, band in DISTANCE_BANDS.items()}
    assert inside == {
        "short": [True, False, False],
        "middle": [False, False, True],
        "long": [False] * 3,
        "all": [True] * 3,
    }
    assert in_band(BOXES[:0], (0, 30)).shape == (0,)


def test_silent_frames_count_their_band_unless_the_published_figure_is_asked_for() -> None:
    match = match_frame_in_band(BOXES, np.array([0.9, 0.8, 0.7]), BOXES, [0.5], (30, 50))
    assert (match.gt_count, match.true_positive[0.5].tolist()) == (1, [True])
    assert match_frame_in_band(None, None, BOXES, [0.5], (30, 50)).gt_count == 1
    assert match_frame_in_band(None, None, BOXES, [0.5], (30, 50), silent_frames_count_all=True).gt_count == 3


def test_classes_are_matched_among_themselves() -> None:
    scores, truth_labels = np.array([0.9, 0.8, 0.7]), np.array([1, 2, 1])
    found = np.array([1, 1, 1])
    match = match_frame_of_class(BOXES, scores, found, BOXES, truth_labels, 1, [0.5])
    assert (match.gt_count, match.true_positive[0.5].tolist()) == (2, [True, False, True])
    assert match_frame_of_class(None, None, None, BOXES, truth_labels, 2, [0.5]).gt_count == 1
    assert mean_over_classes([0.5, float("nan"), 1.0]) == 0.75
    assert math.isnan(mean_over_classes([float("nan")]))
