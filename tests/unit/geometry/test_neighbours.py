"""Neighbours and merged boxes against their plain twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.geometry.box_merging import iou_3d_matrix, merge_boxes
from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.geometry.iou_torch import paired_iou_3d
from opencood.geometry.neighbours import NOBODY, ball_query, farthest_points, gathered, interpolated
from opencood.geometry.refinement import corrected, residuals

SETTINGS = settings(deadline=None, max_examples=25)
SEEDS = st.integers(0, 10_000)


def cloud(seed: int, count: int, spread: float = 2.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-spread, spread, (count, 3)).astype(np.float32))


def boxes_of(seed: int, count: int, spread: float = 6.0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    columns = [random.uniform(-spread, spread, (count, 2)), random.uniform(-0.2, 0.2, (count, 1))]
    columns += [random.uniform((1.4, 1.6, 3.5), (1.8, 2.0, 4.5), (count, 3)), random.uniform(-4, 4, (count, 1))]
    return torch.from_numpy(np.concatenate(columns, axis=1).astype(np.float32))


@SETTINGS
@given(SEEDS, st.integers(0, 30), st.integers(0, 40))
def test_farthest_points_one_by_one(seed: int, points: int, count: int) -> None:
    places = cloud(seed, points)
    expected = [0] if points and count else []
    while len(expected) < min(points, count):
        distances = ((places[:, None] - places[expected]) ** 2).sum(dim=-1).amin(dim=1)
        expected.append(int(distances.argmax()))
    assert farthest_points(places, count).tolist() == expected


@SETTINGS
@given(SEEDS, st.integers(0, 12), st.integers(0, 30), st.floats(0.1, 3), st.integers(1, 8))
def test_ball_query_one_by_one(seed: int, queries: int, points: int, radius: float, count: int) -> None:
    wanted, places = cloud(seed, queries), cloud(seed + 1, points)
    found = ball_query(wanted, places, radius, count)
    assert found.shape == (queries, count)
    for query, row in zip(wanted, found.tolist(), strict=True):
        near = [i for i, place in enumerate(places) if float((place - query).norm()) < radius][:count]
        assert row == (near + [near[0]] * (count - len(near)) if near else [NOBODY] * count)


def test_gathered_and_interpolated() -> None:
    values = torch.arange(6.0).view(3, 2)
    assert gathered(values, torch.tensor([[2, NOBODY]])).tolist() == [[[4, 5], [0, 0]]]
    assert gathered(values[:0], torch.tensor([[NOBODY]])).tolist() == [[[0, 0]]]
    level = torch.arange(12.0).view(1, 3, 4)
    places = torch.tensor([[1.0, 2.0], [0.5, 0.0], [1.25, 1.5], [-3.0, 9.0], [7.0, -1.0]])
    assert interpolated(level, places)[:, 0].tolist() == [9, 0.5, 7.25, 8, 3]


@SETTINGS
@given(SEEDS, st.integers(0, 6), st.integers(0, 6))
def test_iou_matrix_is_that_of_pairs(seed: int, first: int, second: int) -> None:
    a, b = boxes_of(seed, first), boxes_of(seed + 1, second)
    matrix = iou_3d_matrix(a, b, "hwl")
    assert matrix.shape == (first, second)
    for i in range(first):
        for j in range(second):
            pair = paired_iou_3d(boxes_to_corners_3d(a[i : i + 1], "hwl"), boxes_to_corners_3d(b[j : j + 1], "hwl"))
            assert float(matrix[i, j]) == pytest.approx(float(pair[0]), abs=1e-9)


def plain_merge(boxes: torch.Tensor, scores: torch.Tensor) -> list[tuple[np.ndarray, float]]:
    """The matcher as the specification tells it, box by box."""
    near = iou_3d_matrix(boxes, boxes, "hwl") > 0.1
    cluster = [-1] * len(boxes)
    for i in range(len(boxes)):
        if cluster[i] < 0:
            for j in range(len(boxes)):
                if near[i, j] or i == j:
                    cluster[j] = i
    merged = []
    for label in sorted(set(cluster)):
        rows = [j for j in range(len(boxes)) if cluster[j] == label]
        own, marks = boxes[rows].double().numpy(), scores[rows].double().numpy()
        turned = own[:, 6] - own[marks.argmax(), 6]
        opposite = np.abs((turned + math.pi) % (2 * math.pi) - math.pi) > math.pi / 2
        minority = ~opposite if marks[opposite].sum() > marks[~opposite].sum() else opposite
        yaw = own[:, 6] + math.pi * minority
        weights = marks / marks.sum()
        heading = math.atan2((np.sin(yaw) * weights).sum(), (np.cos(yaw) * weights).sum())
        score = min(1.0, sum(mark ** (k + 1) for k, mark in enumerate(sorted(marks, reverse=True))))
        merged.append((np.array([*(own[:, :6] * weights[:, None]).sum(axis=0), heading]), score))
    return merged


@SETTINGS
@given(SEEDS, st.integers(0, 10))
def test_boxes_merge_as_told(seed: int, count: int) -> None:
    boxes = boxes_of(seed, count, spread=3.0)
    scores = torch.from_numpy(np.random.default_rng(seed).uniform(0.2, 1, count).astype(np.float32))
    merged = merge_boxes(boxes, scores, "hwl")
    expected = plain_merge(boxes, scores)
    assert len(merged.boxes) == len(expected)
    for box, score, (wanted, mark) in zip(merged.boxes, merged.scores, expected, strict=True):
        assert box.numpy() == pytest.approx(wanted, abs=1e-4)
        assert float(score) == pytest.approx(mark, abs=1e-5)


@SETTINGS
@given(SEEDS, st.integers(1, 6))
def test_residuals_correct_boxes(seed: int, count: int) -> None:
    boxes, objects = boxes_of(seed, count), boxes_of(seed + 7, count)
    found = corrected(boxes, residuals(objects, boxes))
    assert torch.allclose(found[:, :6], objects[:, :6], atol=1e-4)
    half_turns = (found[:, 6] - objects[:, 6]) / math.pi
    assert torch.allclose(half_turns, half_turns.round(), atol=1e-4)
