"""Golden family ``data``: from files to the batch, and the functions on the way (spec data.md, section 12).

Data set cases are driven by ``hypes`` and ``build``; single functions are told by the outputs and settings they have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from opencood.config.loader import load_mapping
from opencood.data.augment import build_augmentation
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.data.images import build_image_augmentation, normalised
from opencood.data.modality import Roster, ego_modalities, load_assignment
from opencood.data.pcd import read_points
from opencood.data.perturb.pose import PoseNoise
from opencood.data.pictures import read_picture
from opencood.data.readers.opv2v import channel_file
from opencood.geometry import boxes as box_maths
from opencood.geometry import points as point_maths
from opencood.geometry import poses as pose_maths
from opencood.geometry.iou import standup_iou_plus_one
from opencood.geometry.warp import normalize_pairwise
from opencood.registry import REGISTRY
from tests.golden.arrays import flatten
from tests.golden.case import Case
from tests.golden.legacy_random import LegacyRandom

Outputs = dict[str, Any]
_NUMBER = r"(-?\d+(?:\.\d+)?)"


def run(case: Case) -> Outputs:
    """Every wanted output of one case."""
    if "hypes" in case.meta:
        return _batch(case)
    for fits, function in _FUNCTIONS:
        if fits(case):
            return function(case)
    raise KeyError(f"{case.id}: no function gives {', '.join(case.wanted) or 'these values'}")


def _batch(case: Case) -> Outputs:
    build, legacy = case.meta["build"], LegacyRandom()
    legacy.seed(build["build_seed"])
    draws = Draws(legacy.numpy, legacy.python)
    dataset = build_dataset(load_mapping(case.hypes()), build["train"], build["visualize"], draws=draws)
    legacy.seed(build["item_seed"])
    samples = [dataset[index] for index in build["idx"]]
    batch = flatten(getattr(dataset, build["collate"])(samples), keep=case.meta["expect_values"])
    case.check("len", len(dataset))
    case.check_keys(batch)
    case.check_values(batch)
    return batch


def _poses(case: Case) -> Outputs:
    poses, text = case.inputs["poses"], case.meta["what"]
    count = int(_said(text, r"for the first (\d+) poses"))
    size = int(_said(text, r"max_cav (\d+)"))
    height, width, ratio, down = (
        _said(text, rf"{name} {_NUMBER}") for name in ("H", "W", "discrete_ratio", "downsample")
    )
    pairwise = pose_maths.pairwise_transforms(poses[:count], size)
    matrices = np.stack([pose_maths.x_to_world(pose) for pose in poses])
    return {
        "x_to_world": matrices,
        "x1_to_x2": np.stack([pose_maths.x1_to_x2(pose, poses[0]) for pose in poses]),
        "tfm_to_pose": pose_maths.tfm_to_pose(matrices),
        "pairwise": pairwise,
        "affine": normalize_pairwise(pairwise[None], height * ratio * down, width * ratio * down),
        "pose_to_tfm6": pose_maths.poses_to_tfm(poses),
        "pose_to_tfm3": pose_maths.poses_to_tfm(poses[:, [0, 1, 4]]),
    }


def _boxes(case: Case) -> Outputs:
    corners = box_maths.boxes_to_corners_3d(case.inputs["boxes"], "hwl")
    limits = case.meta["range"]
    return {
        "corners": corners,
        "center": box_maths.corners_to_boxes(corners, "hwl"),
        "mask8": box_maths.corners_in_range(corners, limits, min_corners=8),
        "mask1": box_maths.corners_in_range(corners, limits, min_corners=1),
        "standup": box_maths.standup_boxes(corners),
    }


def _targets(case: Case) -> Outputs:
    section = case.meta["postprocess"]
    limits = section["anchor_args"]["cav_lidar_range"]
    preprocess = {"cav_lidar_range": limits, "args": {"voxel_size": case.meta["voxel_size"]}}
    hypes = load_mapping({"yaml_parser": "load_general_params", "preprocess": preprocess, "postprocess": section})
    anchor_args = hypes["postprocess"]["anchor_args"]
    case.check("derived", {key: anchor_args[key] for key in case.meta["derived"]})
    processor = REGISTRY.get("postprocessor", section["core_method"]).target(hypes["postprocess"])
    truth, mask = case.inputs["gt"], case.inputs["mask"]
    labels = processor.generate_label(gt_box_center=truth, mask=mask)
    empty = processor.generate_label(gt_box_center=truth, mask=np.zeros_like(mask))
    standup = [
        box_maths.standup_boxes(box_maths.boxes_to_corners_3d(boxes, section["order"]))
        for boxes in (processor.anchors().reshape(-1, 7), truth[mask == 1])
    ]
    return labels | {
        "anchors": processor.anchors(),
        "iou_max": standup_iou_plus_one(*standup).max(axis=1),
        "empty_neg_sum": empty["neg_equal_one"].sum(),
        "empty_pos_sum": empty["pos_equal_one"].sum(),
    }


def _preprocessor(case: Case) -> Outputs:
    section = case.meta["preprocess"]
    context = {"cav_lidar_range": section["cav_lidar_range"], "train": case.meta.get("train", False)}
    if "geometry" in case.meta:
        hypes = load_mapping({"yaml_parser": "load_bev_params", "preprocess": section, "postprocess": {}})
        context["geometry_param"] = hypes["preprocess"]["geometry_param"]
        derived = {key: context["geometry_param"][key] for key in case.meta["geometry"]}
        case.check("geometry", derived, case.meta["geometry"])
    built = REGISTRY.build("preprocessor", section["core_method"], section["args"], **context)
    return built.preprocess(case.inputs["points"])


def _augmented(case: Case) -> Outputs:
    legacy = LegacyRandom()
    legacy.seed(case.meta["seed"])
    augmentation = build_augmentation(case.meta["data_augment"])
    boxes, valid = case.inputs["boxes"].copy(), case.inputs["mask"] == 1
    points, boxes[valid] = augmentation(case.inputs["points"], boxes[valid], Draws(legacy.numpy, legacy.python))
    return {"points": points, "boxes": boxes}


def _noise(case: Case) -> Outputs:
    text = case.meta["what"]
    std, turn, mean, turn_mean = (
        _said(text, rf"\b{name} {_NUMBER}") for name in ("pos", "rot", "pos mean", "rot mean")
    )
    outputs = {}
    for name in case.wanted:
        legacy = LegacyRandom()
        legacy.seed(int(_said(text, rf"(\d+) \({name}\)")))
        noise = PoseNoise(std, turn, mean, turn_mean, distribution="laplace" if name == "laplace" else "gaussian")
        draws = Draws(legacy.numpy, legacy.python)
        outputs[name] = np.stack([noise.draw(draws) for _ in range(len(case.wanted[name]))])
    return outputs


def _images(case: Case) -> Outputs:
    legacy = LegacyRandom()
    legacy.seed(case.meta["seed"])
    augmentation = build_image_augmentation(case.meta["data_aug_conf"], "data_aug_conf")
    picture = read_picture(case.path(case.meta["image"]), "RGB")
    depth = read_picture(case.path(case.meta["depth"]), "L")
    outputs: Outputs = {}
    for draw in sorted({name.partition("/")[0] for name in case.wanted}):
        transform = augmentation.draw(case.meta["train"], Draws(legacy.numpy, legacy.python))
        changed = transform.apply(picture)
        rot, shift = transform.homography()
        outputs[draw] = {
            "sample": np.array([transform.resize, *transform.size, *transform.crop, transform.flip, transform.rotate]),
            "rgb": np.asarray(changed)[::2, ::2],
            "depth": np.asarray(transform.apply(depth))[::2, ::2],
            "post_rot": rot,
            "post_tran": shift,
            "norm_mean": normalised(changed).mean(axis=(1, 2), dtype=np.float64),
        }
    return outputs


def _points(case: Case) -> Outputs:
    points = case.inputs["points"]
    clouds = [read_points(case.path(name)) for name in case.meta["pcd_files"]]
    return {
        "mask_ego": point_maths.remove_own_body(points),
        "by_range": point_maths.points_in_range(points, case.meta["range"]),
        "pcd_sums": np.stack([[len(cloud), *cloud.sum(axis=0, dtype=np.float64)] for cloud in clouds]),
    }


def _adaptor(case: Case) -> Outputs:
    assignment = load_assignment({"heter": {"assignment_path": str(case.path(case.meta["assignment"]))}})
    files = [
        wanted | {"file_out": str(channel_file(Path(wanted["file_in"]), wanted["channels"]))}
        for wanted in case.meta["lidar_channels"]
    ]
    case.check("lidar_channels", files)
    case.check("cases", [_assigned(wanted, assignment) for wanted in case.meta["cases"]])
    return {}


def _assigned(wanted: Mapping[str, Any], assignment: Any) -> dict[str, Any]:
    mapping, legacy = wanted["mapping_dict"], LegacyRandom()
    names = ego_modalities(wanted["ego_modality"])
    roster = Roster(names, tuple(mapping.values()), mapping, assignment=assignment)
    draws = Draws(legacy.numpy, legacy.python)
    order = roster.order(wanted["scenario"], wanted["cav_list_in"], draws)
    modality = {agent: roster.modality(wanted["scenario"], order, k, draws) for k, agent in enumerate(order)}
    return {**wanted, "cav_list_out": order, "modality": modality}


def _said(text: str, pattern: str) -> float:
    """A number that only the description of the case tells."""
    found = re.search(pattern, text)
    if found is None:
        raise KeyError(f"the description does not say '{pattern}': {text}")
    return float(found[1])


def _gives(*names: str) -> Callable[[Case], bool]:
    return lambda case: set(names) <= set(case.wanted)


def _has(*keys: str) -> Callable[[Case], bool]:
    return lambda case: set(keys) <= set(case.meta)


_FUNCTIONS: tuple[tuple[Callable[[Case], bool], Callable[[Case], Outputs]], ...] = (
    (_gives("x_to_world"), _poses),
    (_gives("mask8"), _boxes),
    (_gives("anchors"), _targets),
    (_gives("pcd_sums"), _points),
    (_has("preprocess"), _preprocessor),
    (_has("data_augment"), _augmented),
    (_has("data_aug_conf"), _images),
    (_has("assignment"), _adaptor),
    (lambda case: set(case.wanted) <= {"gauss", "laplace"}, _noise),
)
