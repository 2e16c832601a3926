"""Anchor grids."""

from __future__ import annotations

import numpy as np
import pytest

from opencood.errors import ConfigError
from opencood.geometry.anchors import anchor_grid, multiclass_anchor_grid

ARGS = {
    "cav_lidar_range": [-12.8, -6.4, -3, 12.8, 6.4, 1], "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "num": 2,
    "vw": 0.4, "vh": 0.4, "W": 64, "H": 32,
}  # fmt: skip
CAR = {
    "class_name": "vehicle", "anchor_sizes": [[3.9, 1.6, 1.56]], "anchor_rotations": [0, 1.57],
    "anchor_bottom_heights": [-1.78], "align_center": True, "feature_map_stride": 4,
}  # fmt: skip


def test_centres_are_cell_centres_for_stride_two() -> None:
    grid = anchor_grid(ARGS, "hwl")

    assert grid.shape == (16, 32, 2, 7)
    np.testing.assert_allclose(grid[0, :, 0, 0], -12.8 + 0.8 * (np.arange(32) + 0.5))
    np.testing.assert_allclose(grid[:, 0, 1, 1], -6.4 + 0.8 * (np.arange(16) + 0.5))
    np.testing.assert_allclose(grid[3, 5, :, 2:], [[-1, 1.56, 1.6, 3.9, 0], [-1, 1.56, 1.6, 3.9, np.pi / 2]])


def test_larger_strides_keep_the_ends_one_cell_inside_the_border() -> None:
    grid = anchor_grid(ARGS | {"feature_stride": 4}, "hwl")
    assert grid.shape == (8, 16, 2, 7)
    np.testing.assert_allclose(grid[0, [0, -1], 0, 0], [-12.4, 12.4])


def test_other_order_of_sizes() -> None:
    np.testing.assert_allclose(anchor_grid(ARGS, "lhw")[0, 0, 0, 3:6], [3.9, 1.56, 1.6])


def test_classes_are_stacked_and_aligned_as_asked() -> None:
    person = CAR | {"class_name": "pedestrian", "anchor_sizes": [[0.8, 0.6, 1.73]], "align_center": False}
    grid = multiclass_anchor_grid(ARGS | {"anchor_generator_config": [CAR, person]}, "hwl")

    assert grid.shape == (2, 8, 16, 2, 7)
    np.testing.assert_allclose(grid[0, 0, :, 0, 0], -12.8 + 1.6 * (np.arange(16) + 0.5))
    np.testing.assert_allclose(grid[1, 0, [0, -1], 0, 0], [-12.8, 12.8])
    np.testing.assert_allclose(grid[1, 0, 0, 1, 2:], [-1.78, 1.73, 0.6, 0.8, 1.57])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num": 3}, "num is 3 but r lists 2"),
        ({"W": None}, "missing key 'W'.*derived by the YAML parser"),
        ({"l": None}, "missing key 'l'"),
    ],
)
def test_bad_sections_are_named(change: dict, message: str) -> None:
    section = {key: value for key, value in (ARGS | change).items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        anchor_grid(section, "hwl")


def test_unknown_order_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected hwl or lhw"):
        anchor_grid(ARGS, "whl")


def test_classes_on_different_grids_are_refused() -> None:
    with pytest.raises(ConfigError, match="share one grid"):
        multiclass_anchor_grid(ARGS | {"anchor_generator_config": [CAR, CAR | {"feature_map_stride": 2}]}, "hwl")
