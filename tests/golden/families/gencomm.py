"""Golden family ``gencomm``: V2X-Real data, anchors, targets and decoding (spec gencomm.md, section 8).

Models and losses are in ``gencomm_models.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opencood.config.loader import load_mapping
from opencood.data.build import build_dataset
from opencood.registry import REGISTRY
from tests.golden.case import Case
from tests.golden.families import gencomm_models
from tests.golden.trees import written

Outputs = dict[str, Any]


def run(case: Case) -> Outputs:
    """Every wanted output of one case."""
    for fits, function in (*KINDS, *gencomm_models.KINDS):
        if fits(case):
            return function(case)
    raise KeyError(f"{case.id}: no function gives {', '.join(case.wanted)}")


def _v2xreal_samples(case: Case) -> Outputs:
    """Sample 3 of the tree, in the modes and delays that the outputs name (``vc``, ``vc_delay100``)."""
    root = written(case.meta["files"], lambda stem: case.inputs[f"points/{stem}"])
    table = root.with_suffix(".json")
    table.write_text(json.dumps(case.meta["assignment"]))
    names = sorted({name.partition("/")[0] for name in case.wanted})
    outputs, facts = {}, {}
    for name in names:
        outputs[name], facts[name] = _v2xreal_sample(case, name, root, table)
    table.unlink()
    case.check("expected", facts)
    return outputs


def _v2xreal_sample(case: Case, name: str, root: Path, table: Path) -> tuple[Outputs, dict[str, Any]]:
    mode, _, delay = name.partition("_delay")
    content = case.meta["config"] | {"root_dir": str(root), "validate_dir": str(root), "dataset_mode": mode}
    content["heter"] = content["heter"] | {"assignment_path": str(table)}
    if delay:
        late = {"async_mode": "sim", "async_method": "const", "async_overhead": int(delay)}
        content["noise_setting"] = {"add_noise": True, "add_async_noise": True, "async_args": late}
    dataset = build_dataset(load_mapping(content), train=False)
    batch = dataset.collate_batch_test([dataset[3]])
    assert batch is not None
    ego = batch["ego"]
    order = np.argsort([str(one) for one in ego["object_ids"]])
    outputs = {
        "objects": ego["object_bbx_center"][0][order],
        "pairwise": ego["pairwise_t_matrix"][0, :4, :4],
        "lidar_pose": ego["lidar_pose"],
        "lidar_pose_clean": ego["lidar_pose_clean"],
        "labels": ego["label_dict"]["pos_equal_one"][0],
        "record_len": ego["record_len"],
    }
    for key in [key for key in ego if key.startswith("inputs_")]:
        voxels = ego[key]
        sums = [len(voxels["voxel_coords"]), voxels["voxel_features"].sum(), voxels["voxel_num_points"].sum()]
        outputs[f"voxel_{key.removeprefix('inputs_')}"] = np.array([float(value) for value in sums], np.float32)
    facts = {
        "length": len(dataset),
        "scenarios": len({dataset.frame(index).scenario for index in range(len(dataset))}),
        "cav_id_list": ego["cav_id_list"],
        "agent_modality_list": ego["agent_modality_list"],
        "object_ids_sorted": [str(ego["object_ids"][row]) for row in order],
    }
    return outputs, facts


def _postprocessor(case: Case) -> Any:
    section = case.meta["postprocess"]
    return REGISTRY.get("postprocessor", section["core_method"]).target(section)


def _v2xreal_targets(case: Case) -> Outputs:
    processor = _postprocessor(case)
    anchors = processor.anchors()
    labels = processor.generate_label(gt_box_center=case.inputs["gt"], mask=case.inputs["mask"])
    targets = labels["targets"]
    index = np.argwhere((targets != 0).any(axis=-1))
    return {
        "anchor_shape": np.array([one.shape for one in anchors]),
        "anchor_crop": [one[::5, ::5] for one in anchors],
        "anchor_sum": np.array([one.sum() for one in anchors], np.float32),
        "num_per_location": np.array([one.shape[2] for one in anchors]),
        "labels": labels["pos_equal_one"],
        "target_index": index,
        "target_value": targets[tuple(index.T)],
        "targets_shape": np.array(targets.shape),
    }


def _v2xreal_postprocess(case: Case) -> Outputs:
    processor = _postprocessor(case)
    names = ("object_bbx_center", "object_bbx_mask")
    sample = {name: case.tensor(name) for name in names} | {"object_ids": case.meta["object_ids"]}
    sample |= {key: torch.eye(4) for key in ("transformation_matrix", "transformation_matrix_clean")}
    heads = {name: case.tensor(name) for name in ("cls_preds", "reg_preds")}
    boxes, scores = processor.post_process({"ego": sample}, {"ego": heads})
    truth, classes = processor.generate_gt_bbx({"ego": sample})
    first = truth[:, 0].numpy()
    order = np.lexsort((first[:, 0], first[:, 1]))
    return {"boxes": boxes, "score_label": scores, "gt_boxes": truth[order], "gt_label": classes[order]}


def _gives(*names: str) -> Callable[[Case], bool]:
    return lambda case: set(names) <= set(case.wanted)


# What tells a kind of case -> what runs it. The first that fits.
KINDS: tuple[tuple[Callable[[Case], bool], Callable[[Case], Outputs]], ...] = (
    (lambda case: "files" in case.meta, _v2xreal_samples),
    (_gives("anchor_shape"), _v2xreal_targets),
    (_gives("score_label"), _v2xreal_postprocess),
)
