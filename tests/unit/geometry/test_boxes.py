"""Corners, ranges and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from opencood.errors import ConfigError
from opencood.geometry.boxes import (
    boxes2d_to_corners2d,
    boxes_to_corners_3d,
    corners_below_size,
    corners_in_height,
    corners_in_range,
    corners_to_boxes,
    limit_period,
    project_corners,
    standup_boxes,
)
from opencood.geometry.poses import x_to_world
from tests.unit.geometry import plain

RANGE = [-25.6, -25.6, -3, 25.6, 25.6, 1]


@settings(deadline=None, max_examples=60)
@given(plain.boxes())
def test_corners_give_the_box_back(boxes: np.ndarray) -> None:
    corners = boxes_to_corners_3d(boxes, "hwl")
    assert corners.dtype == np.float32

    back = corners_to_boxes(corners, "hwl")

    np.testing.assert_allclose(back[:, :6], boxes[:, :6], atol=1e-5)
    np.testing.assert_allclose(limit_period(back[:, 6] - boxes[:, 6], 0.5, 2 * np.pi), 0, atol=1e-5)
    np.testing.assert_allclose(corners_to_boxes(corners, "hwl", planar=False)[:, 3:6], boxes[:, 3:6], atol=1e-5)
    np.testing.assert_allclose(boxes_to_corners_3d(torch.from_numpy(boxes), "hwl").numpy(), corners, atol=1e-5)


def test_corner_order() -> None:
    corners = boxes_to_corners_3d(np.array([[10, 20, 30, 2, 4, 6, 0]]), "hwl")[0]
    np.testing.assert_allclose(corners[:4], [[13, 18, 29], [13, 22, 29], [7, 22, 29], [7, 18, 29]])
    np.testing.assert_allclose(corners[4:, :2], corners[:4, :2])
    np.testing.assert_allclose(corners[4:, 2], 31)


def test_orders_name_the_size_columns() -> None:
    hwl = np.array([[1, 2, 3, 1.5, 2.0, 4.0, 0.3]])
    lwh = hwl[:, [0, 1, 2, 5, 4, 3, 6]]
    np.testing.assert_array_equal(boxes_to_corners_3d(hwl, "hwl"), boxes_to_corners_3d(lwh, "lwh"))
    np.testing.assert_allclose(corners_to_boxes(boxes_to_corners_3d(lwh, "lwh"), "lwh"), lwh, atol=1e-5)
    with pytest.raises(ConfigError, match="xyz"):
        boxes_to_corners_3d(hwl, "xyz")


def test_a_tilted_box_looking_backwards_keeps_its_yaw() -> None:
    corners = boxes_to_corners_3d(np.array([[0, 0, 0, 1.5, 2, 4, np.pi]]), "hwl")
    tilted = project_corners(corners.astype(np.float64), x_to_world([0, 0, 0, 1.0, 0, 1.0]))
    assert abs(corners_to_boxes(tilted, "hwl")[0, 6]) == pytest.approx(np.pi, abs=0.05)


def test_flat_boxes() -> None:
    corners = boxes2d_to_corners2d(np.array([[1.0, 2.0, 4.0, 2.0, 0.0]]))
    assert corners.tolist() == [[[3, 1], [3, 3], [-1, 3], [-1, 1]]]
    assert boxes2d_to_corners2d(torch.tensor([[1.0, 2.0, 4.0, 2.0, 0.0]])).tolist() == corners.tolist()
    assert standup_boxes(corners).tolist() == [[-1, 1, 3, 3]]


def test_precision_decides_on_the_border() -> None:
    corners = np.zeros((1, 8, 3), np.float32)
    corners[0, 0, 0] = 25.6  # the nearest float32 is above 25.6

    assert not corners_in_range(corners, RANGE)[0]
    assert corners_in_range(corners, RANGE, axes="xy")[0]
    assert corners_in_range(torch.from_numpy(corners), RANGE)[0]
    assert corners_in_range(corners, RANGE, min_corners=7)[0]
    assert not corners_in_range(corners, RANGE, min_corners=8)[0]


def test_heights_count_only_in_space() -> None:
    corners = np.zeros((1, 8, 3), np.float32)
    corners[0, 5, 2] = 9
    assert corners_in_range(corners, RANGE, axes="xy")[0]
    assert not corners_in_range(corners, RANGE)[0]
    for values in (corners, torch.from_numpy(corners)):
        assert not corners_in_height(values, -3, 1)[0]
        assert corners_in_height(values, -3, 9)[0]


def test_size_is_that_of_the_standup_box() -> None:
    car = np.array([[0, 0, 0, 1.5, 1.9, 5.5, 0.0], [0, 0, 0, 1.5, 3.5, 5.5, np.pi / 4], [0, 0, 0, 1.5, 0, 5.5, 0.0]])
    corners = boxes_to_corners_3d(car, "hwl")
    assert corners_below_size(corners, 6.0).tolist() == [True, False, False]
    assert corners_below_size(torch.from_numpy(corners), 6.0).tolist() == [True, False, False]


def test_no_boxes() -> None:
    nothing = boxes_to_corners_3d(np.zeros((0, 7)), "hwl")
    assert nothing.shape == (0, 8, 3)
    assert corners_to_boxes(nothing, "hwl").shape == (0, 7)
    assert corners_in_range(nothing, RANGE).shape == (0,)
    assert standup_boxes(nothing).shape == (0, 4)
