"""Which points the sun reaches (numba). A point is only tested against the boxes whose shadow can touch its cell."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

_CELL, _MARGIN = 5.0, 10.0


class ShadowGrid(NamedTuple):
    """Boxes by the cells of the ground that their shadows can touch.

    Attributes:
        corner: (2,) world coordinates of the first cell.
        cells: (2,) number of cells along x and y.
        flat, offsets: the boxes of all cells as one list, and where each cell begins in it.
    """

    corner: np.ndarray
    cells: np.ndarray
    flat: np.ndarray
    offsets: np.ndarray


def shadow_grid(boxes: np.ndarray, to_sun: np.ndarray) -> ShadowGrid:
    """The grid of boxes (K, 7+) and the direction (3,) of the sun; outside it nothing is in the shade."""
    places = boxes[:, :2] if len(boxes) else np.zeros((1, 2))
    corner = places.min(axis=0) - _MARGIN
    cells = np.ceil((places.max(axis=0) + _MARGIN - corner) / _CELL).astype(np.int64)
    return ShadowGrid(corner, cells, *_fill(boxes, to_sun, corner, cells))


@njit(cache=True, error_model="numpy")
def _span(box, to_sun, corner, cells, span):
    """Cells ``span`` = from x, to x, from y, to y that the shadow of a box on the ground may touch."""
    cos, sin = math.cos(box[2]), math.sin(box[2])
    for axis in range(2):
        reach = abs(box[3] * cos) + abs(box[4] * sin) if axis == 0 else abs(box[3] * sin) + abs(box[4] * cos)
        shift = -to_sun[axis] / to_sun[2] * box[6]
        low, high = box[axis] - reach + min(shift, 0.0), box[axis] + reach + max(shift, 0.0)
        span[2 * axis] = min(max(int((low - corner[axis]) / _CELL), 0), cells[axis] - 1)
        span[2 * axis + 1] = min(max(int((high - corner[axis]) / _CELL) + 1, 1), cells[axis])


@njit(cache=True, error_model="numpy")
def _fill(boxes, to_sun, corner, cells):
    """``flat`` and ``offsets`` of a ``ShadowGrid``."""
    offsets, span = np.zeros(cells[0] * cells[1] + 1, np.int64), np.zeros(4, np.int64)
    for k in range(len(boxes)):
        _span(boxes[k], to_sun, corner, cells, span)
        for i in range(span[0], span[1]):
            for j in range(span[2], span[3]):
                offsets[i * cells[1] + j + 1] += 1
    offsets[:] = np.cumsum(offsets)
    flat, filled = np.zeros(offsets[-1], np.int64), offsets[:-1].copy()
    for k in range(len(boxes)):
        _span(boxes[k], to_sun, corner, cells, span)
        for i in range(span[0], span[1]):
            for j in range(span[2], span[3]):
                cell = i * cells[1] + j
                flat[filled[cell]] = k
                filled[cell] += 1
    return flat, offsets


@njit(cache=True, error_model="numpy")
def _blocked(boxes, axes, k, x, y, z, to_sun):
    """Whether the way from a point to the sun goes through box k."""
    cos, sin = axes[k, 0], axes[k, 1]
    dx, dy = x - boxes[k, 0], y - boxes[k, 1]
    entry, leave = 0.0, 1e9
    for axis in range(3):
        if axis == 0:
            o, d, low, high = dx * cos + dy * sin, to_sun[0] * cos + to_sun[1] * sin, -boxes[k, 3], boxes[k, 3]
        elif axis == 1:
            o, d, low, high = dy * cos - dx * sin, to_sun[1] * cos - to_sun[0] * sin, -boxes[k, 4], boxes[k, 4]
        else:
            o, d, low, high = z, to_sun[2], boxes[k, 5], boxes[k, 6]
        if abs(d) < 1e-9:
            if o < low or o > high:
                return False
            continue
        near, far = (low - o) / d, (high - o) / d
        entry, leave = max(entry, min(near, far)), min(leave, max(near, far))
        if entry >= leave:
            return False
    return True


@njit(cache=True, error_model="numpy", inline="always")
def in_sun(boxes, axes, grid, x, y, z, to_sun):
    """1 where the sun reaches a point, 0 in the shade; ``axes`` (K, 2) are cosine and sine of the boxes' headings."""
    i, j = math.floor((x - grid.corner[0]) / _CELL), math.floor((y - grid.corner[1]) / _CELL)
    if i < 0 or j < 0 or i >= grid.cells[0] or j >= grid.cells[1]:
        return 1.0
    cell = int(i) * grid.cells[1] + int(j)
    for n in range(grid.offsets[cell], grid.offsets[cell + 1]):
        if _blocked(boxes, axes, grid.flat[n], x, y, z, to_sun):
            return 0.0
    return 1.0
