"""Boxes of seven numbers and their corners (spec evaluation.md, section 1).

A box is ``(x, y, z, sizes, yaw)``: centre in metres, three sizes named by ``order`` (``hwl`` or ``lwh``), yaw in
radians from +x towards +y. Corners 0-3 are the bottom, 4-7 the top; corners 0-3 in x and y are the box seen from above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from opencood.errors import ConfigError
from opencood.geometry.poses import transform_points

Array = TypeVar("Array", np.ndarray, torch.Tensor)

ORDERS = ("hwl", "lwh", "lhw")

# Signs of corner k along length, width, height.
_SIGNS = np.array(
    [[1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, -1, -1], [1, -1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1]], np.float32
)
_EDGES_ALONG_LENGTH = ([0, 1, 4, 5], [3, 2, 7, 6])  # from the second corner to the first
_EDGES_ALONG_WIDTH = ([0, 2, 4, 6], [1, 3, 5, 7])
_EDGES_ALONG_HEIGHT = ([4, 5, 6, 7], [0, 1, 2, 3])
_CENTRE_CORNERS = [0, 3, 5, 6]


def size_columns(order: str) -> tuple[int, int, int]:
    """Return the columns of length, width and height in a box of that order.

    Raises:
        ConfigError: the order is unknown.
    """
    if order not in ORDERS:
        raise ConfigError(f"postprocess.order: '{order}' is unknown, expected one of {', '.join(ORDERS)}.")
    return 3 + order.index("l"), 3 + order.index("w"), 3 + order.index("h")


def boxes_to_corners_3d(boxes: Array, order: str) -> Array:
    """Return (N, 8, 3) float32 corners of (N, 7) boxes; the arithmetic is float32 whatever comes in."""
    columns = list(size_columns(order))
    if isinstance(boxes, torch.Tensor):
        values = boxes.float()
        local = values[:, None, columns] * torch.as_tensor(_SIGNS / 2, device=boxes.device)
        cosine, sine = torch.cos(values[:, 6:7]), torch.sin(values[:, 6:7])
        stack = torch.stack
    else:
        values = np.asarray(boxes, dtype=np.float32)
        local = values[:, None, columns] * (_SIGNS / 2)
        cosine, sine = np.cos(values[:, 6:7]), np.sin(values[:, 6:7])
        stack = np.stack
    x, y, z = local[..., 0], local[..., 1], local[..., 2]
    return stack([x * cosine - y * sine, x * sine + y * cosine, z], -1) + values[:, None, :3]


def boxes2d_to_corners2d(boxes: Array) -> Array:
    """Return (N, 4, 2) float32 corners of (N, 5) boxes ``x, y, size along x, size along y, yaw``."""
    if isinstance(boxes, torch.Tensor):
        zeros = torch.zeros_like(boxes[:, :1])
        stacked = torch.cat([boxes[:, :2], zeros, boxes[:, 2:4], zeros, boxes[:, 4:5]], dim=1)
    else:
        zeros = np.zeros_like(boxes[:, :1])
        stacked = np.concatenate([boxes[:, :2], zeros, boxes[:, 2:4], zeros, boxes[:, 4:5]], axis=1)
    return boxes_to_corners_3d(stacked, "lwh")[:, :4, :2]


def corners_to_boxes(corners: NDArray, order: str, planar: bool = True) -> NDArray:
    """Return (N, 7) boxes of (N, 8, 3) corners, in the precision of the corners.

    Roll and pitch are lost: with ``planar`` the sizes are measured in the ground plane, so that a tilted box shrinks
    slightly; without it they are lengths in space (CooPre). The yaw is the circular mean of the four edges.
    """
    columns = size_columns(order)
    boxes = np.empty((len(corners), 7), corners.dtype if np.issubdtype(corners.dtype, np.floating) else np.float64)
    boxes[:, :3] = corners[:, _CENTRE_CORNERS].mean(axis=1)
    along_length, along_width, along_height = (
        corners[:, first] - corners[:, second]
        for first, second in (_EDGES_ALONG_LENGTH, _EDGES_ALONG_WIDTH, _EDGES_ALONG_HEIGHT)
    )
    axes = 2 if planar else 3
    boxes[:, columns[0]] = np.linalg.norm(along_length[..., :axes], axis=-1).mean(axis=1)
    boxes[:, columns[1]] = np.linalg.norm(along_width[..., :axes], axis=-1).mean(axis=1)
    heights = (
        np.abs(along_height[..., 2].mean(axis=1)) if planar else np.linalg.norm(along_height, axis=-1).mean(axis=1)
    )
    boxes[:, columns[2]] = heights
    angles = np.arctan2(along_length[..., 1], along_length[..., 0])
    boxes[:, 6] = np.arctan2(np.sin(angles).sum(axis=1), np.cos(angles).sum(axis=1))
    return boxes


def project_corners(corners: Array, matrix: ArrayLike | torch.Tensor) -> Array:
    """Return the (N, K, 3) corners mapped by a (4, 4) matrix, in the precision of the corners.

    Some samples hold the matrices (A, 4, 4) of all their agents; the first, that of the ego, counts.
    """
    return transform_points(corners, matrix if np.ndim(matrix) == 2 else matrix[0])  # type: ignore[index]


def standup_boxes(corners: Array) -> Array:
    """Return (N, 4) ``min x, min y, max x, max y`` of (N, K, 2 or 3) corners."""
    if isinstance(corners, torch.Tensor):
        return torch.cat([corners[..., :2].amin(dim=-2), corners[..., :2].amax(dim=-2)], dim=-1)
    return np.concatenate([corners[..., :2].min(axis=-2), corners[..., :2].max(axis=-2)], axis=-1)


def bev_corners(corners: Array) -> Array:
    """Return the (N, 4, 2) polygons seen from above of (N, 8, 3) or (N, 4, 2) corners."""
    return corners[..., :4, :2]


def corners_in_range(
    corners: Array, limits: Sequence[float], axes: str = "xyz", min_corners: int | None = None
) -> Array:
    """Return (N,) True where at least ``min_corners`` (None: all) corners lie in the range, borders included.

    Args:
        corners: (N, K, 3), or (N, K, 2) with ``axes="xy"``.
        limits: ``[x0, y0, z0, x1, y1, z1]``.
        axes: ``xyz`` or ``xy``.

    Tensors, and every x-y test, compare in float32; arrays tested in x, y and z compare float32 corners with float64
    limits. A corner at float32(25.6) is thus inside a limit of 25.6 for the former and outside for the latter
    (evaluation.md, 3).
    """
    used = len(axes)
    low, high = limits[:used], limits[3 : 3 + used]
    if isinstance(corners, torch.Tensor):
        values = corners[..., :used]
        inside = ((values >= values.new_tensor(low)) & (values <= values.new_tensor(high))).all(dim=-1)
        return inside.all(dim=-1) if min_corners is None else inside.sum(dim=-1) >= min_corners
    precision = np.float64 if axes == "xyz" else np.float32
    values = np.asarray(corners[..., :used], precision)
    inside = np.all((values >= np.asarray(low, precision)) & (values <= np.asarray(high, precision)), axis=-1)
    return np.all(inside, axis=-1) if min_corners is None else inside.sum(axis=-1) >= min_corners


def corners_below_size(corners: Array, max_extent: float) -> Array:
    """Return (N,) True where the extents of (N, K, 3) corners along x and along y are at most ``max_extent`` metres.

    Extents are those of the standup box, so that the limit on a turned box is tighter; a box without extent in y fails.
    """
    standup = standup_boxes(corners)
    along_x, along_y = standup[:, 2] - standup[:, 0], standup[:, 3] - standup[:, 1]
    return (along_x <= max_extent) & (along_y <= max_extent) & (along_y != 0)


def corners_in_height(corners: Array, lowest: float, highest: float) -> Array:
    """Return (N,) True where all heights of (N, 8, 3) corners lie in [lowest, highest] metres."""
    heights = corners[..., 2]
    if isinstance(heights, torch.Tensor):
        return (heights.amin(dim=-1) >= lowest) & (heights.amax(dim=-1) <= highest)
    return (heights.min(axis=-1) >= np.float32(lowest)) & (heights.max(axis=-1) <= np.float32(highest))


def limit_period(values: Array, offset: float = 0.5, period: float = 2 * math.pi) -> Array:
    """Return the values shifted by whole periods into ``[-offset * period, (1 - offset) * period)``."""
    floor = torch.floor if isinstance(values, torch.Tensor) else np.floor
    return values - floor(values / period + offset) * period
