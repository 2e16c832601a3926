"""Slow, plain twins of the fast geometry: shapely polygons, dictionaries, dense arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from shapely.geometry import Polygon

from opencood.geometry.boxes import boxes2d_to_corners2d, boxes_to_corners_3d, standup_boxes


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) IoU of polygons (N, 4, 2) and (M, 4, 2); 0 where one has no area."""
    result = np.zeros((len(first), len(second)))
    for n, a in enumerate(map(Polygon, first)):
        for m, b in enumerate(map(Polygon, second)):
            if a.area > 0 and b.area > 0:
                common = a.intersection(b).area
                result[n, m] = common / (a.area + b.area - common)
    return result


def nms(ious: np.ndarray, scores: Sequence[float], threshold: float, most: int) -> list[int]:
    """Greedy suppression on a matrix of IoU; among equal scores the larger index first."""
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], -i))[:most]
    kept = []
    while left:
        best, *left = left
        kept.append(best)
        left = [i for i in left if not np.float32(ious[best, i]) > np.float32(threshold)]
    return kept


def matching(ious: np.ndarray, scores: Sequence[float], threshold: float) -> list[bool]:
    """Greedy matching on a matrix of IoU, detections by descending score, equal ones in input order."""
    free = set(range(ious.shape[1]))
    hits = []
    for n in sorted(range(len(scores)), key=lambda i: -scores[i]):
        best = max(sorted(free), key=lambda m: ious[n, m], default=None)
        hit = best is not None and np.float32(ious[n, best]) >= np.float32(threshold)
        if hit:
            free.remove(best)
        hits.append(hit)
    return hits


def standup_iou(anchor: np.ndarray, box: np.ndarray) -> np.float32:
    """Overlap of two standup boxes with 1 m added to every side, rounded step by step as the specification says."""
    one = np.float32(1)
    across = np.float32(min(anchor[2], box[2]) - max(anchor[0], box[0]) + one)
    along = np.float32(min(anchor[3], box[3]) - max(anchor[1], box[1]) + one)
    if across <= 0 or along <= 0:
        return np.float32(0)
    overlap = across * along
    box_area = np.float32(box[2] - box[0] + one) * np.float32(box[3] - box[1] + one)
    anchor_area = (float(anchor[2] - anchor[0]) + 1.0) * (float(anchor[3] - anchor[1]) + 1.0)
    return np.float32(overlap / np.float32(anchor_area + float(box_area) - float(overlap)))


def claims(boxes: np.ndarray, anchors: np.ndarray, positive: float, negative: float) -> tuple[np.ndarray, np.ndarray]:
    """(A,) box each anchor answers for (-1: none) and (A,) negative, by evaluating every pair."""
    a_bounds = standup_boxes(boxes_to_corners_3d(anchors, "hwl"))
    b_bounds = standup_boxes(boxes_to_corners_3d(boxes, "hwl")) if len(boxes) else np.zeros((0, 4))
    ious = np.array([[standup_iou(a, b) for b in b_bounds] for a in a_bounds], np.float32).reshape(len(anchors), -1)
    owner, is_negative = np.full(len(anchors), -1), (ious < np.float32(negative)).all(axis=1)
    best = [(int(ious[:, g].argmax()), g) for g in range(len(boxes)) if ious[:, g].max() > 0]
    for anchor, g in [*np.argwhere(ious > np.float32(positive)).tolist(), *best]:
        if owner[anchor] < 0:
            owner[anchor] = g
    is_negative[[anchor for anchor, _ in best]] = False
    return owner, is_negative


def voxels(
    points: np.ndarray, limits: Sequence[float], size: Sequence[float], most_points: int, most_voxels: int
) -> dict[tuple[int, ...], list[np.ndarray]]:
    """Cell (z, y, x) -> its kept points, in order of first appearance."""
    low, step = np.asarray(limits[:3], np.float32), np.asarray(size, np.float32)
    cells = [round((limits[3 + axis] - limits[axis]) / size[axis]) for axis in range(3)]
    found: dict[tuple[int, ...], list[np.ndarray]] = {}
    for point in points:
        cell = np.floor((point[:3] - low) / step)
        if not all(0 <= cell[axis] < cells[axis] for axis in range(3)):
            continue
        key = tuple(int(value) for value in cell[::-1])
        if key not in found and len(found) == most_voxels:
            continue
        members = found.setdefault(key, [])
        if len(members) < most_points:
            members.append(point)
    return found


def polygons(most: int = 8) -> st.SearchStrategy[np.ndarray]:
    """(N, 4, 2) footprints close together: on a half-metre lattice (touching, nested, equal) or free, some flat."""
    on_lattice = st.integers(-6, 6).map(lambda value: value / 2)
    free = st.floats(-3, 3, allow_nan=False, width=32)
    number = on_lattice | free
    size = st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0]) | st.floats(0.125, 5, width=32)
    yaw = st.sampled_from([0.0, np.pi / 2, np.pi, np.pi / 4]) | st.floats(-4, 4, width=32)
    box = st.tuples(number, number, size, size, yaw)
    return st.lists(box, max_size=most).map(_as_polygons)


def _as_polygons(boxes: list[tuple[float, ...]]) -> np.ndarray:
    return boxes2d_to_corners2d(np.array(boxes, np.float64).reshape(-1, 5))


def boxes(most: int = 12, spread: float = 6.0) -> st.SearchStrategy[np.ndarray]:
    """(N, 7) boxes in ``hwl`` order, about the size of cars, some on the anchor lattice."""
    number = st.floats(-spread, spread, width=32) | st.integers(-int(spread), int(spread)).map(float)
    yaw = st.sampled_from([0.0, np.pi / 2, np.pi / 4, -np.pi]) | st.floats(-4, 4, width=32)
    sizes = [st.floats(*span, width=32) for span in ((1, 3), (0.5, 2.5), (0.5, 6))]
    box = st.tuples(number, number, st.floats(-2, 0, width=32), *sizes, yaw)
    return st.lists(box, max_size=most).map(lambda rows: np.array(rows, np.float64).reshape(-1, 7))
