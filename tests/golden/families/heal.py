"""Runner of family ``heal``: parts, detectors, losses and checkpoint tools of the HEAL family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from opencood.communication import Message
from opencood.geometry.warp import normalize_pairwise
from opencood.models import checkpoint_tools
from opencood.models.backbones.aligner import AlignNet
from opencood.models.build import build_model
from opencood.models.scene import SceneFeatures
from opencood.models.sparse.weights import sparse_weight_to_v2
from opencood.registry import REGISTRY
from tests.golden.harness import Case

Results = dict[str, Any]
# A case says what its configuration would say in a published file of this family.
DIALECT = {"flavor": "heal", "parity": "published"}


def run(case: Case) -> Results:
    """Build what the first key of ``build`` names and call it."""
    if "build" not in case.meta:
        return run_tools(case)
    build = case.meta["build"]
    if build.get("mode", case.meta.raw().get("mode")) == "train" and "loss" in build:
        return run_training(case, build)
    for key, runner in RUNNERS.items():
        if key in build:
            return runner(case, build)
    raise LookupError(f"no runner for a case that builds {', '.join(build)}")


# --- parts --------------------------------------------------------------------------------------


def run_encoder(case: Case, build: Mapping[str, Any]) -> Results:
    section = build["encoder"]
    encoder = case.fill(REGISTRY.build("encoder", section["core_method"], section["encoder_args"])).eval()
    (name,) = {key.split("/")[0] for key in case.inputs if key.startswith("inputs_")}
    inputs = case.tensors(name)
    agents = int(case.tensor("record_len").sum()) if "record_len" in case.inputs else None
    with torch.no_grad():
        level, aux = encoder(inputs, agents)
        results = {"spatial_features": level, "bev": level}
        if hasattr(encoder, "pillar_vfe"):
            voxels = (inputs["voxel_features"], inputs["voxel_coords"], inputs["voxel_num_points"])
            results["pillar_features"] = encoder.pillar_vfe(*voxels)
        if "geometry" in case.wanted:
            results["geometry"] = encoder.geometry(inputs)
    if "depth_items" in aux:
        results["depth_logit"], results["depth_gt_indices"] = aux["depth_items"]
    return results


def run_backbone(case: Case, build: Mapping[str, Any]) -> Results:
    args = dict(build["backbone_args"])
    if "input_channels" in build:
        args["inplanes"] = build["input_channels"]
    backbone = case.fill(REGISTRY.build("backbone", build["backbone"], args)).eval()
    with torch.no_grad():
        return {"spatial_features_2d": backbone(case.tensor("x"))}


def run_map_to_map(case: Case, module: nn.Module) -> Results:
    case.fill(module).eval()
    with torch.no_grad():
        return {"y": module(case.tensor("x"))}


def run_aligner(case: Case, build: Mapping[str, Any]) -> Results:
    return run_map_to_map(case, AlignNet(**build["aligner_args"]))


def run_shrink(case: Case, build: Mapping[str, Any]) -> Results:
    return run_map_to_map(case, REGISTRY.build("aligner", "downsample", build["shrink_header"]))


def run_compressor(case: Case, build: Mapping[str, Any]) -> Results:
    """The compressor as a link: there is no other way through it in a detector."""
    link = case.fill(REGISTRY.build("link", "compressor", build["compressor"])).eval()
    scene = SceneFeatures((case.tensor("x"),), (len(case.tensor("x")),))
    with torch.no_grad():
        message: Message = link.send(scene)
        return {"y": link.receive([message], scene, scene.layout()).map}


# --- fusion -------------------------------------------------------------------------------------


def scene_of(case: Case, build: Mapping[str, Any]) -> SceneFeatures:
    extent = build["map_extent_m"]
    scene = SceneFeatures((case.tensor("x"),), (1,) * len(case.tensor("x")), extent=(extent["H"], extent["W"]))
    if "record_len" not in case.inputs:
        return scene
    record_len = tuple(case.tensor("record_len").tolist())
    return replace(scene, record_len=record_len, pairwise=case.tensor("pairwise_t_matrix"))


def run_fusion(case: Case, build: Mapping[str, Any]) -> Results:
    scene, section = scene_of(case, build), build["fusion"]
    results = {"affine_matrix": normalize_pairwise(scene.pairwise, *scene.extent)}
    method = section["fusion_method"]
    if method.startswith("none"):
        return results | {"fused": scene.to_ego(scene.map)}
    args = section.get(method)
    net = REGISTRY.build("fusion", method, {"in_channels": args} if isinstance(args, int) else args)
    case.fill(net).eval()
    with torch.no_grad():
        return results | {"fused": net(scene)}


def run_pyramid(case: Case, build: Mapping[str, Any]) -> Results:
    crops = build.get("cam_crop_info") or {}
    ratios = {m: (crop[f"crop_ratio_H_{m}"], crop[f"crop_ratio_W_{m}"]) for m, crop in crops.items()}
    net = REGISTRY.build("fusion", "pyramid", build["fusion_backbone"], camera_ratios=ratios, crop_wraps=True)
    case.fill(net).eval()
    names = tuple(build.get("agent_modality_list") or case.meta.raw().get("agent_modality_list") or ())
    scene = replace(scene_of(case, build), modality=names)
    with torch.no_grad():
        if build["forward"] == "single":
            fused, occupancy = net.forward_single(scene.map)
        else:
            fused, occupancy = net.forward_collab(scene)
    return {"fused": fused, "occ": occupancy}


# --- detectors ----------------------------------------------------------------------------------


def batch_of(case: Case, build: Mapping[str, Any]) -> dict[str, Any]:
    """The batch dict, without the targets."""
    tops = {name.split("/")[0] for name in case.inputs} - {"target", "target_single"}
    batch = {top: case.tensors(top) if top not in case.inputs else case.tensor(top) for top in sorted(tops)}
    if "agent_modality_list" in case.meta:
        batch["agent_modality_list"] = case.meta["agent_modality_list"]
    if "agent_modality_list" in build:
        batch["agent_modality_list"] = build["agent_modality_list"]
    return batch


def run_model(case: Case, build: Mapping[str, Any]) -> Results:
    model = case.fill(build_model({"model": build["model"], **DIALECT})).eval()
    with torch.no_grad():
        outputs = model(batch_of(case, build))
    if "output_keys" in case.meta:
        case.check("output_keys", sorted(outputs), want=sorted(case.meta.raw()["output_keys"]))
    for name, text in case.meta["string_outputs"].items() if "string_outputs" in case.meta else ():
        if outputs[name] != text:
            case.problem(f"{name}: want {text}, got {outputs[name]}")
    return {name: value for name, value in outputs.items() if not isinstance(value, str)}


# --- losses and training ------------------------------------------------------------------------


def losses(case: Case, build: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Tensor, Results]:
    """All losses a case declares: their sum, and the results under their stored names."""
    from opencood.losses.build import build_loss

    criterion = build_loss({"loss": build["loss"], **DIALECT})
    total, terms = criterion(outputs, case.tensors("target"))
    results: Results = {"loss": total, "terms": terms}
    reported = {"main": sorted(terms)}
    if any(name.startswith("target_single/") for name in case.inputs):
        single, single_terms = criterion(outputs, case.tensors("target_single"), "_single")
        results |= {"loss_single": single, "terms_single": single_terms}
        reported["_single"] = sorted(single_terms)
        total = total + single
    if "reported_terms" in case.meta:
        wanted = {suffix: sorted(names) for suffix, names in case.meta.raw()["reported_terms"].items()}
        case.check("reported_terms", reported, want=wanted)
    return total, results


def run_loss(case: Case, build: Mapping[str, Any]) -> Results:
    outputs = case.tensors("output")
    leaves: dict[str, Tensor] = {}
    _collect(outputs, "", leaves)
    if "string_outputs" in case.meta:
        outputs |= case.meta["string_outputs"]
    total, results = losses(case, build, outputs)
    total.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    norms = {f"grad_norm/{name}": gradient.norm() for name, gradient in gradients.items()}
    return results | {f"grad/{name}": gradient for name, gradient in gradients.items()} | norms


def _collect(node: Any, name: str, leaves: dict[str, Tensor]) -> None:
    if isinstance(node, Tensor):
        if node.is_floating_point():
            leaves[name] = node.requires_grad_()
        return
    for key, child in node.items() if isinstance(node, Mapping) else enumerate(node):
        _collect(child, f"{name}/{key}" if name else str(key), leaves)


def run_training(case: Case, build: Mapping[str, Any]) -> Results:
    if "mode" in case.meta:
        assert case.meta["mode"] == "train"
    model = case.fill(build_model({"model": build["model"], **DIALECT})).train()
    outputs = model(batch_of(case, build))
    total, results = losses(case, build, outputs)
    total.backward()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    tops = [name for name, top in model.named_children() if list(top.parameters())]
    norms = [top for top in tops if _norms(model.get_submodule(top))]
    case.check("trainable_by_top_module", {top: _trainable(model.get_submodule(top)) for top in tops})
    case.check("batchnorm_mode_by_top_module", {top: _norm_mode(model.get_submodule(top)) for top in norms})
    case.check("no_grad_but_trainable", [name for name, p in trainable.items() if p.grad is None])
    buffers = dict(model.named_buffers())
    results["grad_norms"] = [float(trainable[name].grad.norm()) for name in case.meta["grad_names"]]
    results["running_stat_sums"] = [float(buffers[name].sum()) for name in case.meta["running_stat_names"]]
    return results | {name: value for name, value in outputs.items() if not isinstance(value, str)}


def _norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def _norm_mode(module: nn.Module) -> str:
    modes = {norm.training for norm in _norms(module)}
    return {(True,): "train", (False,): "eval"}.get(tuple(modes), "mixed")


def _trainable(module: nn.Module) -> str:
    flags = {p.requires_grad for p in module.parameters()}
    return {(True,): "all", (False,): "none"}.get(tuple(flags), "some")


# --- checkpoint tools ---------------------------------------------------------------------------


def run_tools(case: Case) -> Results:
    if "merge" in case.meta:
        merge, rename = case.meta["merge"], case.meta["rename"]
        first = dict.fromkeys(merge["first_keys"], "first")
        second = dict.fromkeys(merge["second_keys"], "second")
        merged = checkpoint_tools.merge_state_dicts(first, second)
        case.check("merge", merged, want=merge["result"])
        case.check("rename", checkpoint_tools.rename_keys(rename["input"], rename["rules"]), want=rename["result"])
        return {}
    results = {}
    for name in case.inputs:
        wanted = name.replace("_v1", "_v2")
        shape = case.wanted[wanted].shape
        results[wanted] = sparse_weight_to_v2(case.tensor(name), shape)
    return results


RUNNERS: dict[str, Callable[[Case, Mapping[str, Any]], Results]] = {
    "encoder": run_encoder,
    "backbone": run_backbone,
    "aligner_args": run_aligner,
    "compressor": run_compressor,
    "fusion_backbone": run_pyramid,
    "model": run_model,
    "loss": run_loss,
    "fusion": run_fusion,
    "shrink_header": run_shrink,
}
