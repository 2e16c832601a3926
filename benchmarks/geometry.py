"""Rotated suppression, matching, labels and voxels beside plain loops: shapely polygons, dense labels, a dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
from _timing import Row, median_seconds, versus
from numpy.typing import NDArray
from shapely.geometry import Polygon

from opencood.evaluation.matching import match_frame
from opencood.geometry.anchors import AnchorIndex, anchor_grid
from opencood.geometry.boxes import boxes_to_corners_3d, standup_boxes
from opencood.geometry.coding import encode_boxes
from opencood.geometry.iou import standup_iou_plus_one
from opencood.geometry.nms import rotated_nms
from opencood.geometry.targets import assign_targets
from opencood.geometry.voxels import voxelize

RANGE = [-102.4, -51.2, -3.0, 102.4, 51.2, 1.0]
THRESHOLDS = (0.3, 0.5, 0.7)
ANCHORS: dict[str, Any] = {
    "cav_lidar_range": RANGE, "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "num": 2, "feature_stride": 2,
    "vw": 0.4, "vh": 0.4, "W": 512, "H": 256,
}  # fmt: skip


def run() -> list[Row]:
    """Rows for ``benchmarks/run.py``."""
    return benchmarks()


def benchmarks() -> list[Row]:
    """Measure everything; each row holds our median, the baseline's median (milliseconds) and their ratio."""
    generator = np.random.default_rng(0)
    return [_suppression(generator), _matching(generator), _labels(generator), _voxels(generator)]


def _suppression(generator: np.random.Generator) -> Row:
    corners, scores = _boxes(generator, 1000, spread=30), generator.random(1000).astype(np.float32)
    fast = median_seconds(lambda: rotated_nms(corners, scores, 0.15))
    plain = median_seconds(lambda: plain_nms(corners, scores, 0.15), runs=3)
    return versus("rotated NMS of 1000 boxes", fast, plain)


def _matching(generator: np.random.Generator) -> Row:
    truths = _boxes(generator, 60, spread=40)
    detections = truths[generator.integers(60, size=100)] + generator.normal(scale=0.3, size=(100, 1, 3)).astype("f4")
    scores = generator.random(100).astype(np.float32)
    fast = median_seconds(lambda: match_frame(detections, scores, truths, THRESHOLDS))
    plain = median_seconds(lambda: [plain_match(detections, scores, truths, t) for t in THRESHOLDS], runs=3)
    return versus("matching 100 x 60 boxes at three thresholds", fast, plain)


def _labels(generator: np.random.Generator) -> Row:
    index = AnchorIndex(anchor_grid(ANCHORS, "hwl"), "hwl")
    boxes, mask = _random_boxes(generator, 40, spread=40), np.ones(40)
    fast = median_seconds(lambda: assign_targets(boxes, mask, index, "hwl", 0.6, 0.45))
    plain = median_seconds(lambda: dense_targets(boxes, index.anchors), runs=3)
    return versus("labels of 40 boxes on 65536 anchors", fast, plain)


def _voxels(generator: np.random.Generator) -> Row:
    points = (generator.normal(size=(60_000, 4)) * (30, 15, 1, 1)).astype(np.float32)
    size = (0.4, 0.4, 4.0)
    fast = median_seconds(lambda: voxelize(points, RANGE, size, 32, 70_000))
    plain = median_seconds(lambda: plain_voxels(points, size), runs=3)
    return versus("pillars of 60000 points", fast, plain)


def plain_nms(corners: NDArray, scores: NDArray, threshold: float) -> list[int]:
    """Greedy suppression by a double loop over shapely polygons, the best 1000 only."""
    order = np.argsort(scores, kind="stable")[::-1][:1000]
    polygons = {int(i): Polygon(corners[i, :4, :2]) for i in order}
    left, kept = [int(i) for i in order], []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if not plain_iou(polygons[best], polygons[i]) > threshold]
    return kept


def plain_match(detections: NDArray, scores: NDArray, truths: NDArray, threshold: float) -> list[bool]:
    """Greedy matching at one threshold by a double loop over shapely polygons."""
    free = {m: Polygon(corners[:4, :2]) for m, corners in enumerate(truths)}
    hits = []
    for n in np.argsort(-scores, kind="stable"):
        polygon = Polygon(detections[n, :4, :2])
        ious = {m: plain_iou(polygon, other) for m, other in free.items()}
        best = max(ious, key=lambda m: ious[m], default=None)
        hits.append(best is not None and ious[best] >= threshold)
        if hits[-1]:
            del free[best]
    return hits


def plain_iou(first: Polygon, second: Polygon) -> np.float32:
    """Intersection over union of two polygons, rounded as the published code does."""
    union = first.union(second).area
    return np.float32(first.intersection(second).area / union) if union > 0 else np.float32(0)


def dense_targets(boxes: NDArray, anchors: NDArray) -> NDArray:
    """What an uncached, dense label assignment does at least: bounds of all anchors, all overlaps, encoding."""
    flat = anchors.reshape(-1, 7)
    bounds = standup_boxes(boxes_to_corners_3d(flat, "hwl"))
    iou = standup_iou_plus_one(bounds, standup_boxes(boxes_to_corners_3d(boxes, "hwl")))
    rows, columns = np.nonzero(iou > 0.6)
    targets = np.zeros((len(flat), 7))
    targets[rows] = encode_boxes(boxes[columns], flat[rows])
    return targets


def plain_voxels(points: NDArray, size: tuple[float, float, float]) -> dict[tuple[int, int, int], list[NDArray]]:
    """Points by cell in a dictionary, a loop over points."""
    cells: dict[tuple[int, int, int], list[NDArray]] = {}
    low, high = np.asarray(RANGE[:3]), np.asarray(RANGE[3:])
    for point in points:
        if (point[:3] >= low).all() and (point[:3] < high).all():
            x, y, z = np.floor((point[:3] - low) / size)
            members = cells.setdefault((int(z), int(y), int(x)), [])
            if len(members) < 32:
                members.append(point)
    return cells


def _boxes(generator: np.random.Generator, count: int, spread: float) -> NDArray:
    return boxes_to_corners_3d(_random_boxes(generator, count, spread), "hwl")


def _random_boxes(generator: np.random.Generator, count: int, spread: float) -> NDArray:
    """Cars around the origin, every second one a near double of another, as detectors produce them."""
    centres = generator.normal(scale=spread, size=(count, 3)) * (1, 0.6, 0) + (0, 0, -1)
    doubled = generator.integers(count // 2, size=count - count // 2)
    centres[count // 2 :] = centres[doubled] + generator.normal(scale=0.5, size=(len(doubled), 3)) * (1, 1, 0.1)
    sizes = np.array([1.56, 1.6, 3.9]) * generator.uniform(0.8, 1.2, size=(count, 3))
    return np.concatenate([centres, sizes, generator.uniform(-np.pi, np.pi, size=(count, 1))], axis=1)
