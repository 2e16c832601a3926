"""Corners of boxes that formats give by half sizes and a pose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.boxes import boxes_to_corners_3d

# Signs of the half sizes along length, width, height; the order of corners of spec data.md, section 1.
_SIGNS = boxes_to_corners_3d(np.array([[0, 0, 0, 2, 2, 2, 0]], np.float64), "lwh")[0].astype(np.float64)


def cuboid_corners(half_sizes: NDArray[np.float64], to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, 8, 3) float64 corners in the world, metres.

    Args:
        half_sizes: (n, 3) half of length, width and height.
        to_world: (n, 4, 4) from the box's own frame (length along x, width along y) to the world.
    """
    local = _SIGNS[None] * half_sizes[:, None]
    return local @ to_world[:, :3, :3].transpose(0, 2, 1) + to_world[:, None, :3, 3]
