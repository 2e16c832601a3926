"""Compiled kernels on convex quadrilaterals: overlap, greedy suppression, greedy matching.

They live in one file because numba's disk cache notices a change of a kernel's own file only. All arithmetic is double
precision; a polygon without area overlaps nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from opencood.geometry.jit import compiled

# Clipping four vertices by four half planes gives at most 4 -> 6 -> 9 -> 13 -> 19 vertices, whatever rounding does.
_MOST_VERTICES = 24
_NO_AREA = 1e-12
# A pair is skipped when even the overlap of its bounds is too small, by a margin far above rounding.
_PRUNING = 0.999


@compiled
def orient(polygons: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return (N, 4, 2) polygons turned counter-clockwise, their areas (N,) and their bounds (N, 4), minima first."""
    count = polygons.shape[0]
    turned = np.empty((count, 4, 2), np.float64)
    areas = np.empty(count, np.float64)
    bounds = np.empty((count, 4), np.float64)
    for n in range(count):
        doubled = 0.0
        for k in range(1, 3):
            ax, ay = polygons[n, k, 0] - polygons[n, 0, 0], polygons[n, k, 1] - polygons[n, 0, 1]
            bx, by = polygons[n, k + 1, 0] - polygons[n, 0, 0], polygons[n, k + 1, 1] - polygons[n, 0, 1]
            doubled += ax * by - ay * bx
        areas[n] = abs(doubled) / 2
        bounds[n, 0] = bounds[n, 2] = polygons[n, 0, 0]
        bounds[n, 1] = bounds[n, 3] = polygons[n, 0, 1]
        for k in range(4):
            x, y = polygons[n, k, 0], polygons[n, k, 1]
            place = k if doubled >= 0 else 3 - k
            turned[n, place, 0], turned[n, place, 1] = x, y
            bounds[n, 0], bounds[n, 2] = min(bounds[n, 0], x), max(bounds[n, 2], x)
            bounds[n, 1], bounds[n, 3] = min(bounds[n, 1], y), max(bounds[n, 3], y)
    return turned, areas, bounds


@compiled
def _clip(subject: NDArray, count: int, x0: float, y0: float, x1: float, y1: float, result: NDArray) -> int:
    """Keep the part of a polygon left of the line through two points (Sutherland-Hodgman); return its vertex count."""
    dx, dy = x1 - x0, y1 - y0
    kept = 0
    px, py = subject[count - 1, 0], subject[count - 1, 1]
    before = dx * (py - y0) - dy * (px - x0)
    for k in range(count):
        cx, cy = subject[k, 0], subject[k, 1]
        side = dx * (cy - y0) - dy * (cx - x0)
        if (before >= 0) != (side >= 0):
            t = before / (before - side)
            result[kept, 0], result[kept, 1] = px + t * (cx - px), py + t * (cy - py)
            kept += 1
        if side >= 0:
            result[kept, 0], result[kept, 1] = cx, cy
            kept += 1
        px, py, before = cx, cy, side
    return kept


@compiled
def _overlap(first: NDArray, n: int, second: NDArray, m: int, work: NDArray, spare: NDArray) -> float:
    """Area common to ``first[n]`` and ``second[m]``, both counter-clockwise; the others are scratch space."""
    ox, oy = first[n, 0, 0], first[n, 0, 1]  # near the origin the cross products keep more digits
    for k in range(4):
        work[k, 0], work[k, 1] = first[n, k, 0] - ox, first[n, k, 1] - oy
    count = 4
    x0, y0 = second[m, 3, 0] - ox, second[m, 3, 1] - oy
    for k in range(4):
        x1, y1 = second[m, k, 0] - ox, second[m, k, 1] - oy
        count = _clip(work, count, x0, y0, x1, y1, spare)
        if count < 3:
            return 0.0
        work, spare = spare, work
        x0, y0 = x1, y1
    doubled = 0.0
    for k in range(count):
        after = (k + 1) % count
        doubled += work[k, 0] * work[after, 1] - work[k, 1] * work[after, 0]
    return abs(doubled) / 2


@compiled
def _largest_overlap(first: NDArray, n: int, second: NDArray, m: int) -> float:
    """Area common to two bounds ``min x, min y, max x, max y``: no overlap of what they hold can be larger."""
    across = min(first[n, 2], second[m, 2]) - max(first[n, 0], second[m, 0])
    along = min(first[n, 3], second[m, 3]) - max(first[n, 1], second[m, 1])
    return across * along if across > 0 and along > 0 else 0.0


@compiled
def iou_matrix(first: NDArray, second: NDArray) -> NDArray:
    """Return the (N, M) float32 IoU of (N, 4, 2) and (M, 4, 2) float64 convex polygons."""
    a, a_areas, a_bounds = orient(first)
    b, b_areas, b_bounds = orient(second)
    work, spare = np.empty((_MOST_VERTICES, 2)), np.empty((_MOST_VERTICES, 2))
    result = np.zeros((len(a), len(b)), np.float32)
    for n in range(len(a)):
        if not a_areas[n] > _NO_AREA:
            continue
        for m in range(len(b)):
            if b_areas[m] > _NO_AREA and _largest_overlap(a_bounds, n, b_bounds, m) > 0:
                common = _overlap(a, n, b, m, work, spare)
                result[n, m] = np.float32(common / (a_areas[n] + b_areas[m] - common))
    return result


@compiled
def suppress(polygons: NDArray, threshold: np.float32) -> NDArray:
    """Return (N,) True for the (N, 4, 2) polygons, best first, that greedy suppression keeps."""
    turned, areas, bounds = orient(polygons)
    work, spare = np.empty((_MOST_VERTICES, 2)), np.empty((_MOST_VERTICES, 2))
    kept = np.ones(len(turned), np.bool_)
    for n in range(len(turned)):
        if not (kept[n] and areas[n] > _NO_AREA):
            continue
        for m in range(n + 1, len(turned)):
            if not (kept[m] and areas[m] > _NO_AREA):
                continue
            both = areas[n] + areas[m]
            limit = min(_largest_overlap(bounds, n, bounds, m), areas[n], areas[m])
            if limit == 0.0 or limit < _PRUNING * threshold * (both - limit):
                continue
            common = _overlap(turned, n, turned, m, work, spare)
            kept[m] = not np.float32(common / (both - common)) > threshold
    return kept


@compiled
def match_greedily(iou: NDArray, threshold: np.float32) -> NDArray:
    """Return (N,) True for detections (rows, best first) that find an unmatched ground truth (column) of enough IoU.

    Each takes the best column still free, the first of equal ones.
    """
    detections, truths = iou.shape
    free = np.ones(truths, np.bool_)
    hit = np.zeros(detections, np.bool_)
    for n in range(detections):
        best, best_iou = -1, np.float32(-1)
        for m in range(truths):
            if free[m] and iou[n, m] > best_iou:
                best, best_iou = m, iou[n, m]
        if best >= 0 and best_iou >= threshold:
            free[best] = False
            hit[n] = True
    return hit
