"""Oriented rectangles on the ground: footprints of bodies and buildings.

A rectangle is ``(x, y, yaw, half length, half width)``: metres and radians, yaw from +x towards +y.
"""

from __future__ import annotations

import numpy as np

_SIGNS = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])


def corners(rectangles: np.ndarray) -> np.ndarray:
    """Corner points (N, 4, 2) of rectangles (N, 5), in the order of the box convention (``spec/data.md`` section 1)."""
    local = _SIGNS * rectangles[:, None, 3:5]
    cos, sin = np.cos(rectangles[:, 2:3]), np.sin(rectangles[:, 2:3])
    x = local[..., 0] * cos - local[..., 1] * sin + rectangles[:, 0:1]
    y = local[..., 0] * sin + local[..., 1] * cos + rectangles[:, 1:2]
    return np.stack([x, y], axis=-1)


def overlaps(first: np.ndarray, second: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Whether rectangles come closer than ``margin``: (N, 5) and (M, 5) give (N, M) bool.

    Separating-axis test; the margin is added to the half sizes of the first set, so that it is conservative at corners.
    """
    a, b = first[:, None], second[None]
    dx, dy, turn = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1], b[..., 2] - a[..., 2]
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    a_length, a_width = a[..., 3] + margin, a[..., 4] + margin
    b_length, b_width = b[..., 3], b[..., 4]
    along_a, across_a = _in_axes_of(a[..., 2], dx, dy)
    along_b, across_b = _in_axes_of(b[..., 2], dx, dy)
    return (
        (np.abs(along_a) < a_length + b_length * cos + b_width * sin)
        & (np.abs(across_a) < a_width + b_length * sin + b_width * cos)
        & (np.abs(along_b) < b_length + a_length * cos + a_width * sin)
        & (np.abs(across_b) < b_width + a_length * sin + a_width * cos)
    )


def contains(rectangles: np.ndarray, points: np.ndarray, margin: np.ndarray | float = 0.0) -> np.ndarray:
    """Whether points (..., 2) lie inside rectangles (N, 5) grown by ``margin``: (..., N) bool."""
    dx = points[..., None, 0] - rectangles[:, 0]
    dy = points[..., None, 1] - rectangles[:, 1]
    along, across = _in_axes_of(rectangles[:, 2], dx, dy)
    return (np.abs(along) < rectangles[:, 3] + margin) & (np.abs(across) < rectangles[:, 4] + margin)


def _in_axes_of(yaw: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return dx * cos + dy * sin, dy * cos - dx * sin
