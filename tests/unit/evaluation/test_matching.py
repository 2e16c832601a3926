"""Matching of one frame against a plain greedy loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.evaluation.matching import match_frame
from opencood.geometry.boxes import boxes2d_to_corners2d
from opencood.geometry.iou import bev_iou
from tests.unit.geometry import plain

THRESHOLDS = (0.3, 0.5, 0.7)


@settings(deadline=None, max_examples=100)
@given(plain.polygons(12), plain.polygons(8), st.data())
def test_equals_the_plain_loop(detections: np.ndarray, truths: np.ndarray, data: st.DataObject) -> None:
    scores = np.array([data.draw(st.sampled_from([0.2, 0.5, 0.8])) for _ in detections], np.float32)

    match = match_frame(detections, scores, truths, THRESHOLDS)

    assert match.gt_count == len(truths)
    np.testing.assert_array_equal(match.scores, scores[match.order])
    assert match.order.tolist() == sorted(range(len(scores)), key=lambda i: -scores[i])
    ious = bev_iou(detections, truths)
    for threshold in THRESHOLDS:
        assert match.true_positive[threshold].tolist() == plain.matching(ious, scores.tolist(), threshold)


def footprints(*xs: float) -> np.ndarray:
    return boxes2d_to_corners2d(np.array([[x, 0, 2, 2, 0] for x in xs]))


def test_a_ground_truth_is_found_once_and_the_second_best_is_taken_then() -> None:
    match = match_frame(footprints(0, 0.1), np.array([0.9, 0.8]), footprints(0, 0.6), [0.5])
    assert match.true_positive[0.5].tolist() == [True, True]
    match = match_frame(footprints(0, 0.1), np.array([0.9, 0.8]), footprints(0), [0.5])
    assert match.true_positive[0.5].tolist() == [True, False]


def test_overlap_equal_to_the_threshold_counts() -> None:
    half = boxes2d_to_corners2d(np.array([[0.5, 0, 1, 2, 0]]))
    assert match_frame(half, np.array([0.9]), footprints(0), [0.5]).true_positive[0.5].tolist() == [True]


@pytest.mark.parametrize("truths", [footprints(0, 5), np.zeros((0, 8, 3))])
def test_silent_detectors_and_empty_scenes(truths: np.ndarray) -> None:
    for boxes, scores in ((None, None), (np.zeros((0, 8, 3)), np.zeros(0))):
        match = match_frame(boxes, scores, truths, THRESHOLDS)
        assert len(match.scores) == len(match.order) == len(match.true_positive[0.3]) == 0
        assert match.gt_count == len(truths)
    assert match_frame(footprints(0), np.array([1.0]), None, [0.3]).true_positive[0.3].tolist() == [False]


def test_missing_scores_are_named() -> None:
    with pytest.raises(ValueError, match="1 detections but 0 scores"):
        match_frame(footprints(0), None, footprints(0), [0.3])
