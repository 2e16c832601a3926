"""Which cells of a feature map the objects cover (extra labels of CodeAlign; spec data.md, section 10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.boxes import boxes_to_corners_3d, standup_boxes
from opencood.geometry.jit import compiled

_VOXELS_PER_CELL = 2


def foreground_cells(
    boxes: NDArray,
    order: str,
    limits: Sequence[float],
    voxel_size: Sequence[float],
    shape: tuple[int, int],
    swapped_axes: bool = True,
) -> NDArray[np.int64]:
    """Return (M, 4) the cells ``row 0, column 0, row 1, column 1`` of every box's standup box, both ends included.

    Args:
        boxes: (M, 7), metres; rows follow y, columns follow x.
        limits: ``[x0, y0, z0, x1, y1, z1]``.
        voxel_size: along x, y, z; a cell is two voxels.
        shape: (H, W) of the map; cells are clipped to it.
        swapped_axes: as published, rows use the origin and voxel of x and columns those of y, which is right for square
            ranges only; False uses each axis's own.
    """
    standup = standup_boxes(boxes_to_corners_3d(boxes, order)[:, :4]).reshape(-1, 2, 2)[
        ..., ::-1
    ]  # (M, low | high, yx)
    own = slice(None) if swapped_axes else slice(None, None, -1)
    origin = np.asarray(limits[:2], np.float64)[own]
    cell = _VOXELS_PER_CELL * np.asarray(voxel_size[:2], np.float64)[own]
    position = (standup - origin) / cell
    edges = np.concatenate([np.floor(position[:, 0]), np.ceil(position[:, 1])], axis=1)
    last = np.array([*shape, *shape]) - 1
    return np.clip(edges, 0, last).astype(np.int64)


def foreground_map(cells: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (H, W) 1 in every cell of the rectangles (M, 4) of ``foreground_cells``."""
    return _paint(cells, *shape)


@compiled
def _paint(cells: NDArray, rows: int, columns: int) -> NDArray:
    covered = np.zeros((rows, columns), np.uint8)
    for m in range(len(cells)):
        covered[cells[m, 0] : cells[m, 2] + 1, cells[m, 1] : cells[m, 3] + 1] = 1
    return covered
