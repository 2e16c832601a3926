"""Cells under the objects."""

from __future__ import annotations

import numpy as np

from opencood.geometry.foreground import foreground_cells, foreground_map

LIMITS, VOXEL, SHAPE = [-8, -8, -3, 8, 8, 1], [0.5, 0.5, 4], (16, 16)


def test_rectangles_include_every_touched_cell_and_stay_on_the_map() -> None:
    boxes = np.array([[2.5, -3.2, 0, 1.5, 2.0, 4.0, 0.0], [8.0, 8.0, 0, 1.5, 2.0, 4.0, 0.0]])
    cells = foreground_cells(boxes, "hwl", LIMITS, VOXEL, SHAPE)

    assert cells.tolist() == [[3, 8, 6, 13], [15, 14, 15, 15]]
    covered = foreground_map(cells, SHAPE)
    assert covered.dtype == np.uint8
    assert covered.sum() == 4 * 6 + 2
    assert covered[3:7, 8:14].all()


def test_each_axis_may_use_its_own_origin() -> None:
    box = np.array([[0.0, 0.0, 0, 1.5, 1.0, 1.0, 0.0]])
    wide = [-8, -4, -3, 8, 4, 1]
    assert foreground_cells(box, "hwl", wide, VOXEL, (8, 16), swapped_axes=False).tolist() == [[3, 7, 5, 9]]
    assert foreground_cells(box, "hwl", wide, VOXEL, (8, 16)).tolist() == [[7, 3, 7, 5]]


def test_no_objects() -> None:
    cells = foreground_cells(np.zeros((0, 7)), "hwl", LIMITS, VOXEL, SHAPE)
    assert cells.shape == (0, 4)
    assert not foreground_map(cells, SHAPE).any()
