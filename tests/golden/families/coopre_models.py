"""Golden family ``coopre``, continued: detectors, pretraining and its loss (spec coopre.md, 2 to 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.geometry.chamfer import chamfer
from opencood.losses.build import build_loss
from opencood.models.build import build_model
from tests.golden.case import Case

Outputs = dict[str, Any]
DIALECT = {"flavor": "coopre", "parity": "published"}
VOXELS = "voxel_"


def run_detector(case: Case) -> Outputs:
    """Heads of a detector in eval mode, and in train mode where the case asks for it."""
    model = case.fill(build_model({"model": case.meta["model"], **DIALECT}))
    assert case.meta["lidar_range"] == case.meta["model"]["args"]["lidar_range"]
    batch = detector_batch(case)
    outputs = heads(model.eval(), batch)
    if any(name.startswith("train/") for name in case.wanted):
        outputs["train"] = heads(model.train(), batch)
    return outputs


def heads(model: nn.Module, batch: Mapping[str, Any]) -> Outputs:
    """The maps of the heads, their statistics, and every second cell of them."""
    with torch.no_grad():
        maps = {name: level for name, level in model(batch).items() if name in ("psm", "rm")}
    outputs: Outputs = dict(maps)
    for name, level in maps.items():
        outputs |= {f"{name}_stats": statistics(level), f"{name}_stride2": level[:, :, ::2, ::2]}
    return outputs


def statistics(values: Tensor) -> Tensor:
    """Mean, population deviation, sum of absolute values."""
    values = values.double()
    return torch.stack([values.mean(), values.std(correction=0), values.abs().sum()])


def detector_batch(case: Case) -> Outputs:
    """The inputs as a batch; points that were trimmed are filled up with zeros."""
    voxels = {name: case.tensor(name) for name in case.inputs if name.startswith(VOXELS)}
    if (trimmed := voxels.pop("voxel_features_trimmed", None)) is not None:
        missing = case.meta["max_points_per_voxel"] - trimmed.shape[1]
        voxels["voxel_features"] = torch.nn.functional.pad(trimmed, (0, 0, 0, missing))
    others = {name: case.tensor(name) for name in case.inputs if not name.startswith(VOXELS)}
    return {"processed_lidar": voxels, **others}


def run_chamfer(case: Case) -> Outputs:
    """Both directions of the distance, and the gradient of their sum."""
    args = dict(case.meta["args"])
    source = case.tensor("src").requires_grad_()
    found = chamfer(source, case.tensor("dst"), case.tensor("mask") > 0, args.pop("criterion_mode"), **args)
    (found.source + found.target).backward()
    return {
        "loss_src": found.source,
        "loss_dst": found.target,
        "nearest_dst_of_src": found.nearest_target,
        "grad_src": source.grad,
        "grad_norm": source.grad.norm(),
    }


def run_loss(case: Case) -> Outputs:
    """The loss of given maps."""
    maps = case.tensors("")
    leaves = {name: maps[name].requires_grad_() for name in ("pred_coor", "pred_num")}
    total, terms = build_loss({"loss": case.meta["loss"], **DIALECT})(maps, {})
    total.backward()
    gradients = {f"grad_{name}": leaf.grad for name, leaf in leaves.items()}
    return {"total": total, "chamfer": terms["Chamfer_loss"], "num": terms["PcNum_loss"], **gradients}
