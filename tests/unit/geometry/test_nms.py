"""Rotated suppression against a plain greedy loop."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.geometry.boxes import boxes2d_to_corners2d
from opencood.geometry.iou import bev_iou
from opencood.geometry.nms import rotated_nms
from tests.unit.geometry import plain


@settings(deadline=None, max_examples=150)
@given(plain.polygons(20), st.data(), st.sampled_from([0.0, 0.15, 0.5, 1.0]), st.sampled_from([3, 1000]))
def test_equals_the_plain_loop(polygons: np.ndarray, data: st.DataObject, threshold: float, most: int) -> None:
    tied = st.sampled_from([0.1, 0.5, 0.9])
    scores = np.array([data.draw(tied) for _ in polygons], np.float32)

    got = rotated_nms(polygons, scores, threshold, most)

    assert got.dtype == np.int32
    assert got.tolist() == plain.nms(bev_iou(polygons, polygons), scores.tolist(), threshold, most)


def test_equal_scores_keep_the_larger_index_first() -> None:
    twice = boxes2d_to_corners2d(np.array([[0, 0, 4, 2, 0.1], [0, 0, 4, 2, 0.1], [50, 0, 4, 2, 0]]))
    assert rotated_nms(twice, np.array([0.5, 0.5, 0.5], np.float32), 0.15).tolist() == [2, 1]


def test_overlap_equal_to_the_threshold_stays() -> None:
    halves = boxes2d_to_corners2d(np.array([[0, 0, 2, 2, 0], [0.5, 0, 1, 2, 0]]))
    scores = np.array([0.9, 0.8], np.float32)
    assert rotated_nms(halves, scores, 0.5).tolist() == [0, 1]
    assert rotated_nms(halves, scores, 0.499).tolist() == [0]


def test_tensors_give_tensors_and_nothing_gives_nothing() -> None:
    corners = torch.from_numpy(boxes2d_to_corners2d(np.array([[0, 0, 4, 2, 0.1], [0.1, 0, 4, 2, 0.1]])))
    kept = rotated_nms(corners, torch.tensor([0.2, 0.8]), 0.15)

    assert kept.dtype == torch.int32
    assert kept.tolist() == [1]
    assert rotated_nms(torch.zeros(0, 8, 3), torch.zeros(0), 0.15).tolist() == []


def test_order_of_the_boxes_does_not_decide_without_ties() -> None:
    generator = np.random.default_rng(3)
    boxes = generator.normal(size=(80, 5)) * (6, 6, 0, 0, 2) + (0, 0, 4, 2, 0)
    corners, scores = boxes2d_to_corners2d(boxes), generator.random(80).astype(np.float32)
    shuffle = generator.permutation(80)

    kept = rotated_nms(corners, scores, 0.15)

    assert shuffle[rotated_nms(corners[shuffle], scores[shuffle], 0.15)].tolist() == kept.tolist()
