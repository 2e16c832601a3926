"""Why a ground-truth box is not found: a reason that no training can repair, else what the scores say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from opencood.data.frame import EGO
from opencood.evaluation.detections import FrameDetections
from opencood.evaluation.matching import match_frame
from opencood.experiments.sanity import boxes_with_anchor
from opencood.geometry.iou import bev_iou
from opencood.registry import REGISTRY

EVERYTHING = 2.0  # an IoU above which nothing is suppressed
LOWEST_SCORE = 0.01


@dataclass(frozen=True)
class Unreached:
    """A box that no detection matches: its frame, its centre in the ego's frame (metres), and the cause."""

    frame: int
    centre: tuple[float, float, float]
    cause: str

    def __str__(self) -> str:
        x, y, z = self.centre
        return f"frame {self.frame}, box at ({x:.1f}, {y:.1f}, {z:.1f}): {self.cause}"


@torch.no_grad()
def explain(
    hypes: Mapping[str, Any], dataset: Any, model: nn.Module, batches: list[dict[str, Any]], iou: float
) -> Iterator[Unreached]:
    """Yield every ground-truth box of the test batches that no detection matches with ``iou``, and why."""
    model.eval()
    threshold = float(hypes["postprocess"]["target_args"]["score_threshold"])
    lenient = _lenient_processor(hypes["postprocess"])
    for number, batch in enumerate(batches):
        outputs = {EGO: model(batch[EGO])}
        seen = FrameDetections.of(*dataset.post_process(batch, outputs))
        truth, missed = seen.ground_truth, _missed(seen, iou)
        if not missed.any():
            continue
        corners, scores = lenient.post_process(batch, outputs)
        candidates = FrameDetections.of(corners, scores, _truth_like(seen))
        anchored = _anchored(batch[EGO], truth, dataset.post_processor)
        points = _points_inside(batch[EGO], truth)
        for row in np.flatnonzero(missed):
            of_class = (
                candidates
                if seen.ground_truth_classes is None
                else candidates.of_classes([seen.ground_truth_classes[row]])
            )
            cause = _beyond_limits(truth[row], dataset.post_processor.limits) or _cause(
                truth[row], anchored[row], points[row], of_class, threshold, iou
            )
            yield Unreached(number, tuple(truth[row].mean(axis=0).tolist()), cause)


def _beyond_limits(box: NDArray, limits: Any) -> str:
    """Which limit of the post-processing drops every detection of a box (8, 3) like this; empty when none does."""
    length = float(np.ptp(box[:, :2], axis=0).max())
    lowest, highest = float(box[:, 2].min()), float(box[:, 2].max())
    if length > limits.extent:
        return f"its {length:.1f} m are beyond postprocess.max_box_extent ({limits.extent:g} m), so it is dropped"
    if lowest < limits.lowest or highest > limits.highest:
        return f"heights {lowest:.1f} to {highest:.1f} m are beyond postprocess.box_height_range, so it is dropped"
    return ""


def _cause(
    box: NDArray, anchored: bool, points: int | None, candidates: FrameDetections, threshold: float, iou: float
) -> str:
    if not anchored:
        return "no anchor is assigned to it (anchor_args range or sizes, pos_threshold; or another box took its anchor)"
    if points == 0:
        return "no point lies inside it"
    overlaps = bev_iou(box[None], candidates.boxes)[0] if len(candidates.boxes) else np.zeros(0)
    good = overlaps >= iou
    if (good & (candidates.scores > threshold)).any():
        return "found, but suppressed by NMS or matched by another box (nms_thresh)"
    if good.any():
        return f"found with score {candidates.scores[good].max():.2f}, not above score_threshold {threshold:g}"
    best = float(overlaps.max(initial=0.0))
    return f"not learned: the best candidate overlaps by {best:.2f}"


def _truth_like(seen: FrameDetections) -> Any:
    """The ground truth in the form that a post-processor gives it."""
    classes = seen.ground_truth_classes
    return seen.ground_truth if classes is None else (seen.ground_truth, classes)


def _missed(seen: FrameDetections, iou: float) -> NDArray[np.bool_]:
    """Which ground truths (M,) no true positive of their class stands for."""
    if seen.ground_truth_classes is None:
        return _missed_of_one_class(seen, iou)
    missed = np.ones(len(seen.ground_truth), bool)
    for label in np.unique(seen.ground_truth_classes):
        missed[seen.ground_truth_classes == label] = _missed_of_one_class(seen.of_classes([label]), iou)
    return missed


def _missed_of_one_class(seen: FrameDetections, iou: float) -> NDArray[np.bool_]:
    missed = np.ones(len(seen.ground_truth), bool)
    if not len(seen.boxes) or not len(missed):
        return missed
    match = match_frame(seen.boxes, seen.scores, seen.ground_truth, [iou])
    hits = match.order[match.true_positive[iou]]
    overlaps = bev_iou(seen.boxes[hits], seen.ground_truth)
    for row in overlaps:  # one step per detection in descending score, as the matching went
        free = np.where(missed, row, -1.0)
        missed[int(free.argmax())] = False
    return missed


def _anchored(ego: Mapping[str, Any], truth: NDArray, processor: Any) -> NDArray[np.bool_]:
    """Which evaluation boxes (M, 8, 3) have a positive anchor; those that are no labels have none."""
    boxes = _array(ego["object_bbx_center"])[0][_array(ego["object_bbx_mask"])[0] == 1]
    label = {key: _array(ego["label_dict"][key])[0] for key in ("pos_equal_one", "targets")}
    reached = boxes[boxes_with_anchor(boxes, label, processor.anchors(), processor.order)]
    centres = truth.mean(axis=1)
    distance = np.linalg.norm(centres[:, None] - reached[None, :, :3], axis=-1)
    return (distance < 0.1).any(axis=1)


def _points_inside(ego: Mapping[str, Any], truth: NDArray) -> list[int | None]:
    """Number of points in each box (M, 8, 3); None where the batch holds no cloud."""
    if "origin_lidar" not in ego:
        return [None] * len(truth)
    cloud = _array(ego["origin_lidar"])[0][:, :3]
    origin = truth[:, 0]
    edges = np.stack([truth[:, 1] - origin, truth[:, 3] - origin, truth[:, 4] - origin], axis=1)  # (M, 3, 3)
    along = np.einsum("mnk,mek->mne", cloud[None] - origin[:, None], edges) / (edges**2).sum(-1)[:, None]
    return ((along >= 0) & (along <= 1)).all(axis=-1).sum(axis=1).tolist()


def _lenient_processor(section: Mapping[str, Any]) -> Any:
    """The post-processor without suppression and with a low score threshold."""
    targets = {**section["target_args"], "score_threshold": LOWEST_SCORE}
    lenient = {**section, "target_args": targets, "nms_thresh": EVERYTHING}
    return REGISTRY.build("postprocessor", section["core_method"], {"section": lenient}, train=False)


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
