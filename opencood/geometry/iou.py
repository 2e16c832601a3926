"""Intersection over union: exact on rotated boxes seen from above, and the standup variant of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opencood.geometry import polygon_kernels
from opencood.geometry.boxes import bev_corners


def bev_iou(first: NDArray, second: NDArray) -> NDArray[np.float32]:
    """Return the (N, M) float32 IoU of box footprints, computed in double precision by convex clipping.

    Args:
        first: (N, 8, 3) corners, or (N, 4, 2) convex polygons of either turning direction.
        second: (M, 8, 3) or (M, 4, 2).

    Heights are ignored. A footprint without area has IoU 0 with everything (evaluation.md, section 4).
    """
    return polygon_kernels.iou_matrix(footprints(first), footprints(second))


def footprints(corners: NDArray) -> NDArray[np.float64]:
    """Return contiguous (N, 4, 2) float64 polygons of (N, 8, 3) or (N, 4, 2) corners; empty for empty."""
    values = np.asarray(corners, dtype=np.float64)
    if not values.size:
        return np.zeros((0, 4, 2))
    if values.ndim != 3 or values.shape[1] < 4 or values.shape[2] < 2:
        raise ValueError(f"corners must be (N, 8, 3) or (N, 4, 2), got {values.shape}")
    return np.ascontiguousarray(bev_corners(values))


def standup_iou_plus_one(anchors: NDArray, boxes: NDArray) -> NDArray[np.float32]:
    """Return the (A, G) float32 IoU of axis-aligned boxes ``x0, y0, x1, y1`` with 1 added to every side.

    The pixel convention of old toolkits applied to metres: boxes less than 1 m apart overlap. Precision step by step
    as in evaluation.md, section 2, since it decides which of nearly tied anchors becomes positive: everything
    float32, but the anchors' area and the union float64. This is the dense form; ``targets`` evaluates the same near
    each box only.
    """
    a = np.asarray(anchors, np.float32)[:, None]
    b = np.asarray(boxes, np.float32)[None]
    one = np.float32(1)
    across = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + one
    along = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + one
    overlap = np.where((across > 0) & (along > 0), across * along, np.float32(0))
    box_area = (b[..., 2] - b[..., 0] + one) * (b[..., 3] - b[..., 1] + one)
    union = plus_one_areas(anchors)[:, None] + box_area - overlap
    return np.divide(overlap, union.astype(np.float32), dtype=np.float32)


def plus_one_areas(anchors: NDArray) -> NDArray[np.float64]:
    """Return the (A,) areas of axis-aligned boxes with 1 added to both sides: float32 differences, then float64."""
    values = np.asarray(anchors, np.float32)
    width = (values[:, 2] - values[:, 0]).astype(np.float64) + 1
    height = (values[:, 3] - values[:, 1]).astype(np.float64) + 1
    return width * height
