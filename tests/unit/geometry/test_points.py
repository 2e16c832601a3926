"""Masks on points."""

from __future__ import annotations

import numpy as np

from opencood.geometry.points import own_body_mask, points_in_range, remove_own_body


def test_own_body_includes_its_border_at_any_height() -> None:
    points = np.array([[2.95, 1.1, 90, 0], [-1.95, -1.1, 0, 0], [0, 1.2, 0, 0], [3, 0, 0, 0]])
    assert own_body_mask(points).tolist() == [True, True, False, False]
    assert len(remove_own_body(points)) == 2


def test_range_excludes_its_border() -> None:
    points = np.array([[0, 0, 0, 7], [1, 0, 0, 7], [0, 0, -1, 7], [0.9, 0.9, 0.9, 7]], np.float32)
    np.testing.assert_array_equal(points_in_range(points, [-1, -1, -1, 1, 1, 1]), points[[0, 3]])
