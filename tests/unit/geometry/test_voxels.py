"""Voxelization against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.geometry.voxels import grid_size, voxelize
from tests.unit.geometry import plain

LIMITS = (-2.0, -1.0, -1.0, 2.0, 1.0, 1.0)
COORDINATE = st.floats(-2.5, 2.5, width=32) | st.integers(-10, 10).map(lambda value: value / 4)
POINTS = st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE, st.floats(0, 1, width=32)), max_size=60)


@settings(deadline=None, max_examples=150)
@given(
    POINTS, st.sampled_from([(0.5, 0.5, 2.0), (0.4, 0.4, 0.4), (0.1, 0.2, 0.5)]), st.integers(1, 4), st.integers(1, 40)
)
def test_equals_the_dictionary(rows: list, size: tuple[float, ...], most_points: int, most_voxels: int) -> None:
    points = np.array(rows, np.float32).reshape(-1, 4)
    wanted = plain.voxels(points, LIMITS, size, most_points, most_voxels)

    got = voxelize(points, LIMITS, size, most_points, most_voxels)

    assert [tuple(cell) for cell in got["voxel_coords"].tolist()] == list(wanted)
    assert got["voxel_num_points"].tolist() == [len(members) for members in wanted.values()]
    for features, members in zip(got["voxel_features"], wanted.values(), strict=True):
        np.testing.assert_array_equal(features[: len(members)], np.array(members))
        assert not features[len(members) :].any()


def test_a_large_cloud_equals_the_dictionary() -> None:
    generator = np.random.default_rng(0)
    points = (generator.normal(size=(5000, 4)) * (8, 8, 1, 1)).astype(np.float32)
    limits, size = (-12.8, -12.8, -3.0, 12.8, 12.8, 1.0), (0.2, 0.2, 0.2)
    wanted = plain.voxels(points, limits, size, 3, 2000)

    got = voxelize(points, limits, size, 3, 2000)

    assert [tuple(cell) for cell in got["voxel_coords"].tolist()] == list(wanted)
    assert got["voxel_num_points"].tolist() == [len(members) for members in wanted.values()]


def test_types_and_empty_clouds() -> None:
    got = voxelize(np.zeros((0, 4), np.float32), LIMITS, (0.5, 0.5, 2.0), 5, 10)

    assert got["voxel_features"].shape == (0, 5, 4)
    assert got["voxel_features"].dtype == np.float32
    assert got["voxel_coords"].shape == (0, 3)
    assert got["voxel_coords"].dtype == got["voxel_num_points"].dtype == np.int32


def test_points_that_are_not_numbers_or_outside_are_left_out() -> None:
    points = np.array([[np.nan, 0, 0, 1], [np.inf, 0, 0, 1], [9, 0, 0, 1], [0.1, 0.1, 0.1, 1]], np.float32)
    assert voxelize(points, LIMITS, (0.5, 0.5, 2.0), 5, 10)["voxel_num_points"].tolist() == [1]


def test_lower_border_belongs_to_the_range_and_the_upper_does_not() -> None:
    points = np.array([[-2, -1, -1, 0], [2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], np.float32)
    assert voxelize(points, LIMITS, (0.5, 0.5, 2.0), 5, 10)["voxel_coords"].tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("size", [(0.4, 0.4, 4.0), (0.1, 0.1, 0.1)])
def test_grid_size_rounds(size: tuple[float, ...]) -> None:
    wanted = [round(204.8 / size[0]), round(102.4 / size[1]), round(4 / size[2])]
    assert grid_size((-102.4, -51.2, -3, 102.4, 51.2, 1), size).tolist() == wanted
