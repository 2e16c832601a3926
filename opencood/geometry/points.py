"""Masks on point clouds (N, 3 or more), metres, x y z first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.jit import compiled

# The body of the recording car around its own LiDAR: x from, x to, half width in y (data.md, section 5).
OWN_BODY = (-1.95, 2.95, 1.1)


def own_body_mask(points: NDArray, body: Sequence[float] = OWN_BODY) -> NDArray[np.bool_]:
    """Return (N,) True for points on the agent's own body (borders inclusive, any height), agent frame."""
    back, front, half_width = body
    x, y = points[:, 0], points[:, 1]
    return (x >= back) & (x <= front) & (y >= -half_width) & (y <= half_width)


def remove_own_body(points: NDArray, body: Sequence[float] = OWN_BODY) -> NDArray:
    """Return the points that are not on the agent's own body."""
    return _outside(points, np.asarray(body, _precision(points)))


def range_mask(points: NDArray, limits: Sequence[float]) -> NDArray[np.bool_]:
    """Return (N,) True for points strictly inside ``[x0, y0, z0, x1, y1, z1]``."""
    low, high = np.asarray(limits, _precision(points)).reshape(2, 3)
    return np.all((points[:, :3] > low) & (points[:, :3] < high), axis=1)


def points_in_range(points: NDArray, limits: Sequence[float]) -> NDArray:
    """Return the points strictly inside ``[x0, y0, z0, x1, y1, z1]``."""
    return _inside(points, np.asarray(limits, _precision(points)))


def points_per_box(points: NDArray, corners: NDArray, margin: float = 0.0) -> NDArray[np.int64]:
    """Return (M,) how many points each box holds, borders inclusive.

    Args:
        points: (N, 3 or more), metres.
        corners: (M, 8, 3) of boxes that may be turned about any axis, in the frame of the points.
        margin: metres by which every face is moved outwards.
    """
    if not len(corners) or not len(points):
        return np.zeros(len(corners), np.int64)
    # Edges along length, width and height from corner 3 (spec data.md, section 1: the order of corners).
    edges = corners[:, [0, 2, 7]] - corners[:, [3]]
    lengths = np.linalg.norm(edges, axis=-1, keepdims=True)
    axes = (edges / np.maximum(lengths, np.finfo(np.float64).tiny)).astype(np.float32)  # (M, 3, 3)
    centres = corners.mean(axis=1).astype(np.float32)
    reach = (lengths[..., 0] / 2 + margin).astype(np.float32)
    local = (
        np.einsum("mij,nj->mni", axes, points[:, :3].astype(np.float32))
        - np.einsum("mij,mj->mi", axes, centres)[:, None]
    )
    return (np.abs(local) <= reach[:, None]).all(axis=2).sum(axis=1)


def _precision(points: NDArray) -> np.dtype:
    """The type that limits are compared in: that of the points, so that borders are decided as ``range_mask`` does."""
    return points.dtype if np.issubdtype(points.dtype, np.floating) else np.dtype(np.float64)


@compiled
def _outside(points: NDArray, body: NDArray) -> NDArray:
    """One pass instead of a mask and a gather; limits in the precision of the points."""
    kept = np.empty(points.shape, points.dtype)
    count = 0
    for n in range(len(points)):
        x, y = points[n, 0], points[n, 1]
        if not (x >= body[0] and x <= body[1] and y >= -body[2] and y <= body[2]):
            for column in range(points.shape[1]):  # faster than a row at once
                kept[count, column] = points[n, column]
            count += 1
    return kept[:count]


@compiled
def _inside(points: NDArray, limits: NDArray) -> NDArray:
    kept = np.empty(points.shape, points.dtype)
    count = 0
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        within = x > limits[0] and y > limits[1] and z > limits[2]
        if within and x < limits[3] and y < limits[4] and z < limits[5]:
            for column in range(points.shape[1]):  # faster than a row at once
                kept[count, column] = points[n, column]
            count += 1
    return kept[:count]
