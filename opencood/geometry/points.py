"""Masks on point clouds (N, 3 or more), metres, x y z first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The body of the recording car around its own LiDAR: x from, x to, half width in y (data.md, section 5).
OWN_BODY = (-1.95, 2.95, 1.1)


def own_body_mask(points: NDArray, body: Sequence[float] = OWN_BODY) -> NDArray[np.bool_]:
    """Return (N,) True for points on the agent's own body (borders inclusive, any height), agent frame."""
    back, front, half_width = body
    x, y = points[:, 0], points[:, 1]
    return (x >= back) & (x <= front) & (y >= -half_width) & (y <= half_width)


def remove_own_body(points: NDArray, body: Sequence[float] = OWN_BODY) -> NDArray:
    """Return the points that are not on the agent's own body."""
    return points[~own_body_mask(points, body)]


def range_mask(points: NDArray, limits: Sequence[float]) -> NDArray[np.bool_]:
    """Return (N,) True for points strictly inside ``[x0, y0, z0, x1, y1, z1]``."""
    low, high = np.asarray(limits[:3], points.dtype), np.asarray(limits[3:], points.dtype)
    return np.all((points[:, :3] > low) & (points[:, :3] < high), axis=1)


def points_in_range(points: NDArray, limits: Sequence[float]) -> NDArray:
    """Return the points strictly inside ``[x0, y0, z0, x1, y1, z1]``."""
    return points[range_mask(points, limits)]
