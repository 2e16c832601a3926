"""Decoding with NMS, and average precision of 2000 frames, beside plain loops over shapely polygons."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _timing import Row, median_seconds, versus
from shapely.geometry import Polygon

from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.evaluation.report import THRESHOLDS, evaluate
from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.registry import REGISTRY

RANGE = [-102.4, -51.2, -3, 102.4, 51.2, 1]
POSTPROCESS = {
    "core_method": "VoxelPostprocessor",
    "gt_range": RANGE,
    "anchor_args": {
        "cav_lidar_range": RANGE, "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "num": 2, "feature_stride": 2,
        "vw": 0.4, "vh": 0.4, "vd": 4, "W": 512, "H": 256, "D": 1,
    },
    "target_args": {"pos_threshold": 0.6, "neg_threshold": 0.45, "score_threshold": 0.2},
    "order": "hwl",
    "max_num": 100,
    "nms_thresh": 0.15,
    "dir_args": {"dir_offset": 0.7853, "num_bins": 2, "anchor_yaw": [0, 90]},
}  # fmt: skip
FRAMES = 2000
PLAIN_FRAMES = 60


def run() -> list[Row]:
    """Rows for ``benchmarks/run.py``."""
    return [_decode_and_nms(), *_average_precision()]


def _decode_and_nms() -> Row:
    """Heads of one frame on a 256 x 128 map to boxes, some 1000 candidates; the plain baseline is the NMS alone."""
    processor = REGISTRY.build("postprocessor", "VoxelPostprocessor", {"section": POSTPROCESS}, train=False)
    anchors = torch.as_tensor(processor.anchors())
    outputs = _heads(anchors.shape[:3])
    data = {"ego": {"anchor_box": anchors, "transformation_matrix": torch.eye(4)}}
    fast = median_seconds(lambda: processor.post_process(data, {"ego": outputs}))

    scores = torch.sigmoid(outputs["cls_preds"]).permute(0, 2, 3, 1).reshape(-1)
    chosen = scores > POSTPROCESS["target_args"]["score_threshold"]
    corners = boxes_to_corners_3d(anchors.reshape(-1, 7)[chosen].numpy().astype(np.float32), "hwl")
    plain = median_seconds(lambda: plain_nms(corners, scores[chosen].numpy(), 0.15), runs=3)
    return versus(f"decode + NMS, {int(chosen.sum())} candidates", fast, plain)


def _heads(shape: torch.Size) -> dict[str, torch.Tensor]:
    rows, columns, kinds = shape
    generator = torch.Generator().manual_seed(0)
    logits = torch.full((1, kinds, rows, columns), -6.0)
    centers_y = torch.randint(4, rows - 4, (40,), generator=generator)
    centers_x = torch.randint(4, columns - 4, (40,), generator=generator)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            logits[0, 0, centers_y + dy, centers_x + dx] = torch.randn(40, generator=generator)
    regression = 0.1 * torch.randn((1, 7 * kinds, rows, columns), generator=generator)
    direction = torch.randn((1, 2 * kinds, rows, columns), generator=generator)
    return {"cls_preds": logits, "reg_preds": regression, "dir_preds": direction}


def _average_precision() -> list[Row]:
    """Matching at three thresholds and both AP variants; the plain loop runs on fewer frames and is scaled up."""
    frames = DetectionSet(_frames(FRAMES))
    fast = median_seconds(lambda: evaluate(frames), runs=3)
    few = frames.frames[:PLAIN_FRAMES]
    plain = median_seconds(lambda: [plain_match(frame) for frame in few], runs=1, warm_up=0) * FRAMES / PLAIN_FRAMES
    return [versus(f"AP of {FRAMES} frames (30 detections, 20 objects each)", fast, plain, unit="s", scale=1.0)]


def _frames(count: int) -> tuple[FrameDetections, ...]:
    generator = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        truth = np.zeros((20, 7))
        truth[:, :2] = generator.uniform([-100, -50], [100, 50], (20, 2))
        truth[:, 3:6] = 1.6, 1.9, 4.5
        truth[:, 6] = generator.uniform(-np.pi, np.pi, 20)
        found = np.concatenate([truth, truth[:10]]) + generator.normal(0, 0.15, (30, 7))
        corners = [boxes_to_corners_3d(boxes.astype(np.float32), "hwl") for boxes in (found, truth)]
        frames.append(FrameDetections.of(corners[0], generator.random(30), corners[1]))
    return tuple(frames)


def plain_match(frame: FrameDetections) -> dict[float, list[bool]]:
    """Greedy matching as plain loops over polygons, once for each threshold."""
    truths = [Polygon(box[:4, :2]) for box in frame.ground_truth]
    found: dict[float, list[bool]] = {}
    for threshold in THRESHOLDS:
        left = list(truths)
        found[threshold] = []
        for index in np.argsort(-frame.scores, kind="stable"):
            polygon = Polygon(frame.boxes[index][:4, :2])
            overlaps = [_iou(polygon, truth) for truth in left]
            best = max(range(len(overlaps)), key=overlaps.__getitem__, default=None)
            hit = best is not None and overlaps[best] >= threshold
            found[threshold].append(hit)
            if hit:
                left.pop(best)
    return found


def plain_nms(corners: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Greedy suppression as a plain double loop over polygons, at most the best 1000."""
    polygons = [Polygon(box[:4, :2]) for box in corners]
    left = list(np.argsort(-scores, kind="stable")[:1000])
    kept = []
    while left:
        first = left.pop(0)
        kept.append(int(first))
        left = [other for other in left if _iou(polygons[first], polygons[other]) <= threshold]
    return kept


def _iou(a: Any, b: Any) -> float:
    return a.intersection(b).area / a.union(b).area
