"""Masks on points."""

from __future__ import annotations

import numpy as np
import pytest

from opencood.geometry.points import own_body_mask, points_in_range, range_mask, remove_own_body


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
