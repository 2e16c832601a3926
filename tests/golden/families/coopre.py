"""Golden family ``coopre``: samples of V2X-Real and V2V4Real, augmentation, pose error, schedules, average precision.

Source: spec coopre.md 1, 6, 11, 12. Detectors and pretraining are in ``coopre_models``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from opencood.config.loader import load_mapping
from opencood.data.augment import build_augmentation
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.data.perturb.localisation import LocalisationError
from opencood.data.samples.scene import Scene
from opencood.evaluation.average_precision import average_precision
from opencood.evaluation.detections import FrameDetections
from opencood.evaluation.subsets import match_frame_in_band
from opencood.geometry.poses import x1_to_x2
from opencood.losses.build import build_loss
from opencood.registry import REGISTRY
from opencood.training.schedules import build_schedule, closed_form_epoch
from tests.golden.case import Case
from tests.golden.families import coopre_models
from tests.golden.trees import written

Outputs = dict[str, Any]
_CLASSES = {"vehicle": [3.9, 1.6, 1.56], "pedestrian": [0.8, 0.6, 1.73], "truck": [8, 3, 3]}
_MANY_POINTS = 100  # per voxel, so that none is lost


def run(case: Case) -> Outputs:
    """Every wanted output of one case."""
    for fits, function in KINDS:
        if fits(case):
            return function(case)
    raise KeyError(f"{case.id}: no function gives {', '.join(case.wanted)}")


def _sample(case: Case) -> Outputs:
    """One test-time sample of a toy tree."""
    multi_class = "dataset_mode" in case.meta
    hypes = _hypes(case, multi_class)
    dataset = build_dataset(hypes, case.meta["train"])
    index = case.meta["sample_index"]
    frame, sample = dataset.frame(index), dataset[index]
    assert sample is not None
    punctual = build_dataset({**hypes, "wild_setting": {**hypes["wild_setting"], "async": False}}, train=False)
    outputs: Outputs = {"length": np.array(len(dataset)), "base": {}}
    motion = Scene(frame, frame.ego, frame.agents).motion(len(frame.agents))
    for row, (agent, current) in enumerate(zip(frame.agents, punctual.frame(index).agents, strict=True)):
        outputs["base"][agent.id] = {
            "transformation_matrix": x1_to_x2(agent.lidar_pose, frame.ego.lidar_pose),
            "gt_transformation_matrix": x1_to_x2(current.lidar_pose, frame.ego.lidar_pose),
            "spatial_correction_matrix": motion["spatial_correction_matrix"][row],
            "time_delay": np.array(agent.delay),
            "lidar_pose": agent.lidar_pose,
        }
    outputs |= {name: _entry(entry, one_by_one="agents" in entry) for name, entry in sample.items()}
    batch = dataset.collate_batch_test([sample])
    assert batch is not None
    if multi_class:
        case.check("expected", _facts(case, dataset, frame, sample))
    else:
        corners = dataset.post_processor.generate_gt_bbx(batch).numpy().reshape(-1, 24)
        outputs["gt_corners"] = corners[np.lexsort(corners.T[::-1])].reshape(-1, 8, 3)
    return outputs


def _hypes(case: Case, multi_class: bool) -> Any:
    limits, meta = case.meta["cav_lidar_range"], case.meta
    source, ending = ("bin", ".bin") if multi_class else ("pcd", ".pcd")

    def cloud(stem: str) -> np.ndarray:
        points = case.inputs[f"{source}/{stem}"]
        return np.pad(points, ((0, 0), (0, 4 - points.shape[1])))

    root = str(written(meta["frames"], cloud, ending))
    voxels = {"voxel_size": meta.get("voxel_size", [0.4, 0.4, 8])}
    voxels |= {"max_points_per_voxel": _MANY_POINTS, "max_voxel_train": 10_000, "max_voxel_test": 10_000}
    anchors: dict[str, Any] = {"cav_lidar_range": meta["gt_range"], "num": 2, "feature_stride": 8}
    if multi_class:
        anchors["anchor_generator_config"] = [_class_anchors(name, size) for name, size in _CLASSES.items()]
    else:
        anchors |= {"l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90]}
    content = {
        "flavor": "coopre" if multi_class else "v2v4real",
        "root_dir": root,
        "validate_dir": root,
        "yaml_parser": "load_general_params",
        "fusion": meta["fusion"],
        "wild_setting": meta["wild_setting"],
        "preprocess": {"core_method": "SpVoxelPreprocessor", "args": voxels, "cav_lidar_range": limits},
        "postprocess": {
            "core_method": "VoxelPostprocessor", "gt_range": meta["gt_range"], "order": "hwl", "max_num": 20,
            "anchor_args": anchors, "nms_thresh": 0.15,
            "target_args": {"pos_threshold": 0.6, "neg_threshold": 0.45, "score_threshold": 0.2},
        },
    }  # fmt: skip
    if multi_class:
        content |= {"dataset_mode": meta["dataset_mode"]}
    if not isinstance(meta["comm_range"], str):  # a sentence says that there is none
        content["comm_range"] = meta["comm_range"]
    return load_mapping(content)


def _class_anchors(name: str, size: list[float]) -> dict[str, Any]:
    return {
        "class_name": name, "anchor_sizes": [size], "anchor_rotations": [0, 1.57], "anchor_bottom_heights": [-1],
        "align_center": True, "feature_map_stride": 8, "matched_threshold": 0.6, "unmatched_threshold": 0.45,
    }  # fmt: skip


def _entry(entry: Mapping[str, Any], one_by_one: bool) -> Outputs:
    """Objects by id, points in lexicographic order, and what the entry says about motion."""
    order = np.argsort(entry["object_ids"])
    voxels = [part["processed_lidar"] for part in entry["parts"]]
    outputs: Outputs = {
        "object_ids": np.array(entry["object_ids"])[order],
        "objects": entry["object_bbx_center"][order],
        "points": [_sorted(one["voxel_features"][:, 0]) for one in voxels] if one_by_one else _all_points(voxels[0]),
    }
    if "prior_encoding" in entry:
        outputs |= dict(zip(("velocity", "time_delay", "infra"), entry["prior_encoding"].T, strict=True))
        outputs["spatial_correction_matrix"] = entry["spatial_correction_matrix"]
    if "transformation_matrix" in entry:
        outputs["transformation_matrix"] = entry["transformation_matrix"]
    return outputs


def _all_points(voxels: Mapping[str, np.ndarray]) -> np.ndarray:
    places = np.arange(voxels["voxel_features"].shape[1])
    return _sorted(voxels["voxel_features"][places[None] < voxels["voxel_num_points"][:, None]])


def _sorted(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(points.T[::-1])]


def _facts(case: Case, dataset: Any, frame: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    facts = {
        "agents_in_frame": [agent.id for agent in frame.agents],
        "ego": [frame.ego.id],
        "scenarios_used": sorted({dataset.frame(index).scenario for index in range(len(dataset))}),
    }
    if "num_agents_fused" in case.meta.raw()["expected"]:
        facts["num_agents_fused"] = sample["ego"]["agents"]
    return facts


class _Told:
    """Stands for a generator whose draws are told: flips in order, then the angle, then the factor."""

    def __init__(self, draws: Mapping[str, Any]) -> None:
        self._flips = list(draws["flip"])
        self._numbers = [draws["rotation"], draws["scale"]]

    def choice(self, *_: Any, **__: Any) -> bool:
        return self._flips.pop(0)

    def uniform(self, *_: Any) -> float:
        return self._numbers.pop(0)


def _augmented(case: Case) -> Outputs:
    augmentation = build_augmentation(case.meta["data_augment"])
    boxes, valid = case.inputs["boxes"].copy(), case.inputs["mask"] == 1
    draws = Draws(_Told(case.meta["draws"]), None)
    points, boxes[valid] = augmentation(case.inputs["points"], boxes[valid], draws)
    return {"points": points, "boxes": boxes}


def _localised(case: Case) -> Outputs:
    """The constant error of testing; outputs are named by its two deviations."""
    outputs = {}
    for name in case.wanted:
        xyz, turn = map(float, name.split("_")[1:])
        error = LocalisationError(xyz, turn, case.meta["wild_setting"]["seed"], constant=True)
        outputs[name] = case.inputs["pose"] + error.draw(Draws(np.random.RandomState(error.seed), None))
    return outputs


def _several_classes(case: Case) -> Outputs:
    """Anchors, labels, loss and boxes of a detector of three classes (spec coopre.md, 1)."""
    section = {**case.meta["postprocess"], "gt_range": case.meta["gt_range_used_for_final_filter"]}
    processor = REGISTRY.get("postprocessor", section["core_method"]).target(section)
    anchors = processor.anchors()
    labels = processor.generate_label(gt_box_center=case.inputs["gt_box_center"], mask=case.inputs["gt_mask"])
    index = np.argwhere(labels["pos_equal_one"] > 0)
    heads = {name: case.tensor(name).requires_grad_() for name in ("psm", "rm")}
    loss = build_loss({"loss": case.meta["loss"], "flavor": "coopre", "parity": "published"})
    total, terms = loss(heads, processor.collate_batch([labels]))
    total.backward()
    eye = {key: torch.eye(4) for key in ("transformation_matrix", "transformation_matrix_clean")}
    outputs = {name: head.detach() for name, head in heads.items()}
    corners, scores = processor.post_process({"ego": eye}, {"ego": outputs})
    return {
        "anchors_stride4": anchors[:, ::4, ::4],
        "anchors_shape": np.array(anchors.shape),
        "labels": labels["pos_equal_one"].astype(np.int64),
        "pos_index": index,
        "pos_targets": labels["targets"][tuple(index.T)],
        "pred_corners": corners,
        "pred_score_label": scores,
        "loss": {"total": total, "conf": terms["conf_loss"], "reg": terms["reg_loss"]},
        "grad_norm": {name: head.grad.norm() for name, head in heads.items()},
    }


def _rates(case: Case) -> Outputs:
    """Learning rates as the trainer uses them, and of every step."""
    schedule, base = build_schedule(case.meta["lr_scheduler"]), case.meta["optimizer"]["lr"]
    steps = case.meta["iterations_per_epoch"]
    assert steps == case.inputs["iterations_per_epoch"]
    epochs = range(case.meta["lr_scheduler"]["epoches"])
    return {
        "lr_initial": np.array(schedule(base, 0)),
        "lr_per_epoch": np.array([schedule(base, closed_form_epoch(e, before_epoch=True)) for e in epochs]),
        "lr_per_step": np.array([schedule(base, e + step / steps) for e in epochs for step in range(steps)]),
    }


def _by_range(case: Case) -> Outputs:
    """Average precision of every class in every distance bin."""
    frames = [
        FrameDetections.of(one["pred_corners"], one["pred_score_label"], (one["gt_corners"], one["gt_label"]))
        for one in case.tree()
    ]
    thresholds, outputs = case.meta["iou_thresholds"], {}
    for name, band in case.meta["ranges"].items():
        for label, of_class in enumerate(case.meta["classes"], start=1):
            found = [frame.of_classes([label]) for frame in frames]
            matches = [match_frame_in_band(f.boxes, f.scores, f.ground_truth, thresholds, band) for f in found]
            outputs[f"{name}/{of_class}/score_sequence"] = np.concatenate([match.scores for match in matches])
            for threshold in thresholds:
                hits = np.concatenate([match.true_positive[threshold] for match in matches])
                outputs[f"{name}/{of_class}/{threshold}"] = {
                    "num_gt": np.array(sum(match.gt_count for match in matches)),
                    "num_pred": np.array(len(hits)),
                    "tp_sequence": hits.astype(np.int64),
                    "ap_frame_order": np.array(average_precision(matches, threshold, global_sort=False).ap),
                    "ap_global_order": np.array(average_precision(matches, threshold, global_sort=True).ap),
                }
    return outputs


def _has(*keys: str) -> Callable[[Case], bool]:
    return lambda case: set(keys) <= set(case.meta)


# What tells a kind of case -> what runs it. The first that fits.
KINDS: tuple[tuple[Callable[[Case], bool], Callable[[Case], Outputs]], ...] = (
    (_has("frames"), _sample),
    (_has("draws"), _augmented),
    (_has("postprocess", "loss"), _several_classes),
    (_has("lr_scheduler"), _rates),
    (_has("ranges"), _by_range),
    (_has("model", "lidar_range"), coopre_models.run_detector),
    (_has("model", "mode"), coopre_models.run_pretraining),
    (_has("args"), coopre_models.run_chamfer),
    (lambda case: "loss" in case.meta and "model" not in case.meta, coopre_models.run_loss),
    (lambda case: set(case.inputs) == {"pose"}, _localised),
)
