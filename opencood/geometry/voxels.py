"""Points into voxels, with the order and truncation of published checkpoints (spec data.md, section 8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.jit import compiled

_FREE = -1
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplying scatters neighbouring cells over the table


def grid_size(limits: Sequence[float], voxel_size: Sequence[float]) -> NDArray[np.int64]:
    """Return the number of cells along x, y and z of the range ``[x0, y0, z0, x1, y1, z1]``."""
    low, high = np.asarray(limits[:3], np.float64), np.asarray(limits[3:], np.float64)
    return np.round((high - low) / np.asarray(voxel_size, np.float64)).astype(np.int64)


def voxelize(
    points: NDArray, limits: Sequence[float], voxel_size: Sequence[float], max_points: int, max_voxels: int
) -> dict[str, NDArray]:
    """Group points by cell; order and truncation follow the order of the points.

    Args:
        points: (N, F) float32, x y z first, metres. Points outside the range and NaN are left out; the lower border
            belongs to the range, the upper does not.
        limits: ``[x0, y0, z0, x1, y1, z1]``.
        voxel_size: along x, y, z.
        max_points: P; a voxel keeps its first P points.
        max_voxels: when so many exist, points of new cells are left out; existing voxels keep filling.

    Returns:
        ``voxel_features`` (V, P, F) float32 zero padded, ``voxel_coords`` (V, 3) int32 as z, y, x, and
        ``voxel_num_points`` (V,) int32 (at most P). Voxels are numbered by their first point.
    """
    values = np.ascontiguousarray(points, np.float32)
    voxel_of, coords = number_voxels(values, limits, voxel_size, max_voxels)
    features, counts = _fill(values, voxel_of, len(coords), max_points)
    return {"voxel_features": features, "voxel_coords": coords, "voxel_num_points": counts}


def number_voxels(
    points: NDArray[np.float32], limits: Sequence[float], voxel_size: Sequence[float], max_voxels: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return (N,) the voxel of every point (-1: none) and (V, 3) the cell z, y, x of every voxel; see ``voxelize``."""
    low, size = np.asarray(limits[:3], np.float32), np.asarray(voxel_size, np.float32)
    return _number_voxels(points, low, size, grid_size(limits, voxel_size), max_voxels)


@compiled
def _number_voxels(
    points: NDArray, low: NDArray, size: NDArray, cells: NDArray, max_voxels: int
) -> tuple[NDArray, NDArray]:
    """Return (N,) the voxel of every point (-1: none) and (V, 3) the cell of every voxel, in order of first appearance.

    Cells are looked up in a hash table as large as the cloud rather than as the grid, which may hold 10^8 cells.
    """
    count = len(points)
    bits = 1
    while (1 << bits) < 2 * count:
        bits += 1
    shift, slots = np.uint64(64 - bits), (1 << bits) - 1
    keys = np.full(slots + 1, _FREE, np.int64)
    numbers = np.empty(slots + 1, np.int32)
    voxel_of = np.full(count, -1, np.int32)
    coords = np.empty((min(count, max_voxels), 3), np.int32)
    found = 0
    for n in range(count):
        x = np.floor((points[n, 0] - low[0]) / size[0])
        y = np.floor((points[n, 1] - low[1]) / size[1])
        z = np.floor((points[n, 2] - low[2]) / size[2])
        if not (x >= 0 and x < cells[0] and y >= 0 and y < cells[1] and z >= 0 and z < cells[2]):
            continue
        key = (np.int64(z) * cells[1] + np.int64(y)) * cells[0] + np.int64(x)
        slot = np.int64((np.uint64(key) * _SPREAD) >> shift)
        while keys[slot] != key and keys[slot] != _FREE:
            slot = (slot + 1) & slots
        if keys[slot] == _FREE:
            if found >= max_voxels:
                continue
            keys[slot], numbers[slot] = key, found
            coords[found, 0], coords[found, 1], coords[found, 2] = np.int32(z), np.int32(y), np.int32(x)
            found += 1
        voxel_of[n] = numbers[slot]
    return voxel_of, coords[:found].copy()


@compiled
def _fill(points: NDArray, voxel_of: NDArray, voxels: int, max_points: int) -> tuple[NDArray, NDArray]:
    features = np.zeros((voxels, max_points, points.shape[1]), np.float32)
    counts = np.zeros(voxels, np.int32)
    for n in range(len(points)):
        voxel = voxel_of[n]
        if voxel >= 0 and counts[voxel] < max_points:
            for column in range(points.shape[1]):  # faster than a row at once
                features[voxel, counts[voxel], column] = points[n, column]
            counts[voxel] += 1
    return features, counts
