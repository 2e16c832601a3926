"""Golden family ``coopre``, continued: detectors, pretraining and its loss (spec coopre.md, 2 to 8)."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from opencood.data.samples.sensors import build_preprocessor
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


def run_pretraining(case: Case) -> Outputs:
    """Masking, targets, prediction, loss and gradients of one batch whose mask is told."""
    meta = case.meta
    hypes = {key: meta[key] for key in ("model", "preprocess", "loss")} | DIALECT
    model = case.fill(build_model(hypes)).train("train" in meta["mode"].split())
    voxels = {name: case.tensor(name) for name in case.inputs if "voxel_" in name}
    _check_voxels(case, meta["preprocess"], voxels)
    model.masking.draw = lambda count: case.tensor("noise")
    received: list[tuple[Tensor, ...]] = []
    model.backbone_3d.register_forward_pre_hook(lambda module, args: received.append(args))
    outputs = model({"processed_lidar": voxels})
    total, terms = build_loss(hypes)(outputs, {})
    total.backward()
    features, coords, _ = received[0]
    chosen = _choice(model.masking, voxels, case.tensor("noise"))
    hidden_last = model.masking(voxels)[:, 0].to(torch.uint8).argsort(stable=True)
    return {
        **chosen,
        "encoder_input_coords": coords[hidden_last].long(),
        "encoder_input_features": features[hidden_last],
        "gt_mask": outputs["gt_mask"],
        "gt_num": outputs["gt_num"],
        "pred_num": outputs["pred_num"],
        "pred_coor_stats": statistics(outputs["pred_coor"]),
        **_at_masked_cells(outputs),
        "loss": {"total": total, "chamfer": terms["Chamfer_loss"], "num": terms["PcNum_loss"], **_directions(outputs)},
        "grad_norm": {
            name.removeprefix("backbone_3d."): parameter.grad.norm()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        },
    }


def _choice(masking: Any, voxels: Mapping[str, Tensor], noise: Tensor) -> Outputs:
    """All cells in order, and which are kept."""
    places, per_sample = masking.places(voxels["voxel_coords"].long())
    numbers = places.unique()
    rest = numbers % per_sample
    columns = masking.cells[1]
    cells = torch.stack([numbers // per_sample, rest // columns, rest % columns], dim=1)
    return {"cells": cells, "cell_kept": masking.kept(cells[:, 0])}


def _at_masked_cells(outputs: Mapping[str, Tensor]) -> Outputs:
    """Predictions and targets of the masked cells, in order of (frame, y, x)."""
    index, y, x = (outputs["gt_mask"] > 0).nonzero().unbind(1)
    predicted = outputs["pred_coor"][index, :, y, x]
    valid = outputs["target_valid"]
    assert torch.equal(outputs["target_cells"], torch.stack([index, y, x], dim=1))
    return {
        "pred_coor_masked": predicted,
        "pred_coor_masked_first64": predicted[:64],
        "target_count": valid.sum(dim=1),
        "target_points": outputs["target_points"][valid],
    }


def _directions(outputs: Mapping[str, Tensor]) -> Outputs:
    predicted = _at_masked_cells(outputs)["pred_coor_masked"].unflatten(1, (3, -1)).transpose(1, 2)
    found = chamfer(predicted, outputs["target_points"], outputs["target_valid"])
    return {"src_to_dst": found.source, "dst_to_src": found.target}


def _check_voxels(case: Case, section: Mapping[str, Any], voxels: Mapping[str, Tensor]) -> None:
    """The voxels are what the preprocessor makes of the points."""
    settings = SimpleNamespace(train=True)
    preprocessor = build_preprocessor(section, "preprocess", settings)
    frames = [case.inputs[f"points/{k}"] for k in range(1 + int(voxels["voxel_coords"][:, 0].max()))]
    assert all(len(case.inputs[f"agent/{k}"]) == len(points) for k, points in enumerate(frames))
    made = preprocessor.collate([preprocessor.preprocess(points) for points in frames])
    for name, value in voxels.items():
        assert torch.equal(made[name].to(value), value), name
