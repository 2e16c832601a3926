"""Masks on points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencood.geometry.points import (
    own_body_mask,
    points_in_range,
    points_per_box,
    range_mask,
    remove_own_body,
)
from opencood.geometry.poses import transform_points, x_to_world


def test_own_body_includes_its_border_at_any_height() -> None:
    points = np.array([[2.95, 1.1, 90, 0], [-1.95, -1.1, 0, 0], [0, 1.2, 0, 0], [3, 0, 0, 0]])
    assert own_body_mask(points).tolist() == [True, True, False, False]
    assert len(remove_own_body(points)) == 2


def test_range_excludes_its_border() -> None:
    points = np.array([[0, 0, 0, 7], [1, 0, 0, 7], [0, 0, -1, 7], [0.9, 0.9, 0.9, 7]], np.float32)
    np.testing.assert_array_equal(points_in_range(points, [-1, -1, -1, 1, 1, 1]), points[[0, 3]])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_one_pass_keeps_what_the_masks_keep(kind: type) -> None:
    random = np.random.default_rng(0)
    points = random.choice(np.array([-1.95, -1.1, 0.3, 1.1, 2.95, 4, np.nan]), (500, 4))
    points = np.nan_to_num(points).astype(kind) if kind is np.int64 else points.astype(kind)
    np.testing.assert_array_equal(remove_own_body(points), points[~own_body_mask(points)])
    limits = [-1.1, -1.95, -5, 2.95, 2.95, 4]
    np.testing.assert_array_equal(points_in_range(points, limits), points[range_mask(points, limits)])


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 40), st.floats(0, 0.5))
def test_points_per_box_counts_like_a_plain_loop(seed: int, boxes: int, points: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    cloud = rng.uniform(-4, 4, (points, 4)).astype(np.float32)
    sizes, poses = rng.uniform(0.2, 3, (boxes, 3)), rng.uniform(-3, 3, (boxes, 6)) * [1, 1, 1, 60, 60, 25]
    signs = np.array([[1, -1], [1, 1], [-1, 1], [-1, -1]] * 2)
    corners = np.zeros((boxes, 8, 3))
    expected = []
    for box, (size, pose) in enumerate(zip(sizes, poses, strict=True)):
        local = np.column_stack([signs * size[:2] / 2, np.repeat([-1, 1], 4) * size[2] / 2])
        corners[box] = transform_points(local, x_to_world(pose))
        inside = 0
        for point in cloud[:, :3].astype(np.float64):
            offset = transform_points(point[None], np.linalg.inv(x_to_world(pose)))[0]
            inside += all(abs(offset[axis]) <= size[axis] / 2 + margin for axis in range(3))
        expected.append(inside)
    assert points_per_box(cloud, corners, margin).tolist() == expected
