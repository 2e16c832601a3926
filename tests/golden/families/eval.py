"""Golden family ``eval``: geometry, labels, post-processing, matching and average precision (no model involved).

The prefix of the case's name tells the function, everything else stands in the case's settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from opencood.evaluation.average_precision import ap_of_hits, average_precision
from opencood.evaluation.matching import match_frame
from opencood.evaluation.subsets import match_frame_in_band
from opencood.geometry import boxes as box_maths
from opencood.geometry.coding import correct_direction, decode_boxes, flatten_head
from opencood.geometry.nms import rotated_nms
from opencood.registry import REGISTRY

Arrays = dict[str, np.ndarray]


def run(case: Any) -> Arrays:
    """Compute every wanted output of one case."""
    for prefix, function in _FUNCTIONS.items():
        if case.name.startswith(prefix):
            results = function(case)
            return {name: results[name] for name in case.wanted}
    raise KeyError(f"eval/{case.name}: no function for this name, known prefixes are {', '.join(_FUNCTIONS)}")


def box_geometry(case: Any) -> Arrays:
    order, given = case.meta["order"], case.inputs
    corners = box_maths.boxes_to_corners_3d(given["boxes7"], order)
    projected = box_maths.project_corners(corners, given["T"])
    return {
        "corners": corners,
        "corners_bev4": corners[:, :4],
        "projected": projected,
        "centers_of_projected": box_maths.corners_to_boxes(projected, order),
        "centers_of_corners": box_maths.corners_to_boxes(corners, order),
        "standup_of_projected": box_maths.standup_boxes(projected),
        "corners2d_of_boxes5": box_maths.boxes2d_to_corners2d(given["boxes5"]),
    }


def range_masks(case: Any) -> Arrays:
    corners, limits = case.inputs["corners"], case.meta["range"]
    return {
        "mask_all8": box_maths.corners_in_range(corners, limits),
        "mask_min2": box_maths.corners_in_range(corners, limits, min_corners=2),
        "mask_xy": box_maths.corners_in_range(corners, limits, axes="xy"),
        "keep_size": box_maths.corners_below_size(corners, 6.0),
        "keep_z": box_maths.corners_in_height(corners, -3.0, 1.0),
    }


def direction_correction(case: Any) -> Arrays:
    yaw, bins = case.inputs["yaw"], case.inputs["label"]
    return {
        "limit_period_default": box_maths.limit_period(yaw),
        "limit_period_0_pi": box_maths.limit_period(yaw, 0.0, np.pi),
        "corrected": correct_direction(yaw, bins, case.meta["num_bins"], case.meta["dir_offset"]),
    }


def nms(case: Any) -> Arrays:
    corners = box_maths.boxes_to_corners_3d(case.inputs["boxes7"], case.meta.get("order", "hwl"))
    keep = rotated_nms(corners, case.inputs["scores"], case.meta["threshold"])
    return {"keep": keep, "keep_plain": keep}


def anchors_encode_decode(case: Any) -> Arrays:
    processor = _processor(case)
    anchors = processor.anchors()
    labels = processor.generate_label(gt_box_center=case.inputs["gt_boxes"], mask=case.inputs["gt_mask"])
    flat = anchors.reshape(-1, 7)
    deltas = flatten_head(torch.from_numpy(case.inputs["deltas"]), 7)
    positive = labels["pos_equal_one"].reshape(-1) == 1
    return labels | {
        "anchors": anchors,
        "decoded": decode_boxes(deltas, torch.from_numpy(flat).float()).numpy(),
        "decoded_pos": decode_boxes(labels["targets"].reshape(-1, 7)[positive], flat[positive]),
    }


def postprocess(case: Any) -> Arrays:
    processor, agents = _processor(case), case.meta.get("agents")
    heads = {agent: _heads(case.inputs, f"{agent}/" if agents else "") for agent in agents or ["ego"]}
    samples = {agent: {"transformation_matrix": outputs.pop("T", torch.eye(4))} for agent, outputs in heads.items()}
    if "unc_preds" not in heads["ego"]:
        boxes, scores = processor.post_process(samples, heads)
        return _numpy({"boxes": boxes, "scores": scores})
    boxes, scores, uncertainty = processor.post_process(samples, heads, return_uncertainty=True)
    _agree(case, "uncertainty_dim", uncertainty.shape[1])
    corners, boxes7, own = (of_agent[0] for of_agent in processor.post_process_stage1(heads["ego"]))
    stage1 = {"stage1_corners": corners, "stage1_boxes7": boxes7, "stage1_uncertainty": own}
    return _numpy({"boxes": boxes, "scores": scores, "uncertainty": uncertainty} | stage1)


def gt_merge(case: Any) -> Arrays:
    processor = _processor(case)
    samples = {agent: _sample(case.inputs, agent) for agent in case.meta["agents"]}
    if case.name.startswith("gt_merge_by_iou"):
        return {"gt": processor.generate_gt_bbx_by_iou(samples).numpy()}
    return {"gt": _in_order_of(case.wanted["gt"], processor.generate_gt_bbx(samples).numpy())}


def multiclass(case: Any) -> Arrays:
    processor = _processor(case)
    _agree(case, "classes", processor.class_names)
    heads = _heads(case.inputs, "")
    outputs = {"ego": {"cls_preds": heads["cls"], "reg_preds": heads["reg"]}}
    labels = processor.generate_label(gt_box_center=case.inputs["gt_boxes8"], mask=case.inputs["gt_mask"])
    boxes, scored = processor.post_process({"ego": {"transformation_matrix": heads["T"]}}, outputs)
    found = _numpy({"boxes": boxes, "score_labels": scored})
    named = {"label_cls": labels["pos_equal_one"], "targets": labels["targets"]}
    return {"anchors": processor.anchors()} | named | found


def bev(case: Any) -> Arrays:
    given, declared = case.inputs, case.meta["preprocess"]
    cells = {key: declared[key] for key in ("res", "downsample_rate")}
    processor = _processor(case, geometry_param=case.meta["postprocess"]["geometry_param"] | cells)
    labels = processor.generate_label(gt_box_center=given["gt_boxes"], mask=given["gt_mask"])
    heads = _heads(given, "")
    boxes, scores = processor.post_process({"ego": {"transformation_matrix": heads["T"]}}, {"ego": heads})
    valid = given["gt_mask"] == 1
    found = _numpy({"boxes": boxes, "scores": scores})
    return {"label_map": labels["label_map"], "bev_corners": labels["bev_corners"][valid]} | found


def average_precisions(case: Any) -> Arrays:
    bands = case.meta.get("bands")
    if bands is None:
        return _both_orders(case, [match_frame(*frame, case.meta["iou_thresholds"]) for frame in _frames(case)])
    results: Arrays = {}
    for name, limits in bands.items():
        band = None if limits == "unbounded" else limits
        thresholds = case.meta["iou_thresholds"]
        matches = [
            match_frame_in_band(*frame, thresholds, band, silent_frames_count_all=True) for frame in _frames(case)
        ]
        for threshold in thresholds:
            prefix = f"{name}/iou{round(threshold * 100)}"
            results |= _counts(prefix, matches, threshold)
            results[f"{prefix}/ap"] = np.array(average_precision(matches, threshold, global_sort=False).ap)
    return results


def voc_ap(case: Any) -> Arrays:
    given = case.inputs
    sequences = {name.removesuffix("/tp") for name in given if name.endswith("/tp")}
    return {name: np.array(ap_of_hits(given[f"{name}/tp"], int(given[f"{name}/gt"])).ap) for name in sequences}


_FUNCTIONS: dict[str, Callable[[Any], Arrays]] = {
    "box_geometry": box_geometry,
    "range_masks": range_masks,
    "direction_correction": direction_correction,
    "nms": nms,
    "anchors_encode_decode": anchors_encode_decode,
    "postprocess": postprocess,
    "gt_merge": gt_merge,
    "multiclass_postprocess": multiclass,
    "bev_label_and_postprocess": bev,
    "ap_": average_precisions,
    "voc_ap": voc_ap,
}


def _processor(case: Any, **derived: Any) -> Any:
    section = dict(case.meta["postprocess"]) | derived
    if "gt_range" in case.meta:
        section["gt_range"] = case.meta["gt_range"]
    return REGISTRY.build("postprocessor", section["core_method"], {"section": section}, "postprocess", train=False)


def _agree(case: Any, setting: str, got: Any) -> None:
    if setting in case.meta and case.meta[setting] != got:
        case.problem(f"{setting}: the case says {case.meta[setting]}, the post-processor {got}")


def _heads(inputs: Arrays, prefix: str) -> dict[str, torch.Tensor]:
    """Head maps and ``T`` of one agent as float32 tensors (they are stored in half precision)."""
    return {
        name.removeprefix(prefix): torch.from_numpy(np.asarray(value, np.float32))
        for name, value in inputs.items()
        if name.startswith(prefix)
    }


def _sample(inputs: Arrays, agent: str) -> dict[str, Any]:
    boxes, transform = torch.from_numpy(inputs[f"{agent}/boxes"]), torch.from_numpy(inputs[f"{agent}/T"])
    return {
        "object_bbx_center": boxes[None],
        "object_bbx_mask": torch.ones(1, len(boxes)),
        "object_ids": inputs[f"{agent}/ids"].tolist(),
        "transformation_matrix": transform,
        "transformation_matrix_clean": transform,
    }


def _frames(case: Any) -> list[tuple[np.ndarray | None, np.ndarray | None, np.ndarray]]:
    """Detections, scores and ground truth of each frame; a count of -1 means that the detector returned nothing."""
    given, order = case.inputs, case.meta.get("order", "hwl")
    detected, truth = (box_maths.boxes_to_corners_3d(given[name], order) for name in ("det", "gt"))
    frames: list[tuple[np.ndarray | None, np.ndarray | None, np.ndarray]] = []
    first, first_truth = 0, 0
    for count, truths in zip(given["det_count"].tolist(), given["gt_count"].tolist(), strict=True):
        until, until_truth = first + max(count, 0), first_truth + truths
        silent = count < 0
        boxes, scores = (None, None) if silent else (detected[first:until], given["score"][first:until])
        frames.append((boxes, scores, truth[first_truth:until_truth]))
        first, first_truth = until, until_truth
    return frames


def _both_orders(case: Any, matches: list[Any]) -> Arrays:
    results: Arrays = {}
    for threshold in case.meta["iou_thresholds"]:
        prefix = f"iou{round(threshold * 100)}"
        by_score = average_precision(matches, threshold, global_sort=True)
        by_frame = average_precision(matches, threshold, global_sort=False)
        results |= _counts(prefix, matches, threshold) | {
            f"{prefix}/score": np.concatenate([match.scores for match in matches]),
            f"{prefix}/ap_global_sort": np.array(by_score.ap),
            f"{prefix}/ap_accumulation_order": np.array(by_frame.ap),
            f"{prefix}/mrec": np.array(by_score.recall),
            f"{prefix}/mpre": np.array(by_score.precision),
        }
    return results


def _counts(prefix: str, matches: list[Any], threshold: float) -> Arrays:
    hits = np.concatenate([match.true_positive[threshold] for match in matches])
    return {f"{prefix}/tp": hits, f"{prefix}/gt": np.array(sum(match.gt_count for match in matches))}


def _in_order_of(wanted: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Return our boxes permuted so that each stands where the wanted one nearest to it does (their order is free)."""
    if wanted.shape != got.shape:
        return got
    distances = np.abs(wanted[:, None] - got[None]).reshape(len(wanted), len(got), -1).max(axis=-1)
    nearest = distances.argmin(axis=1)
    return got[nearest] if len(set(nearest.tolist())) == len(got) else got


def _numpy(tensors: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
