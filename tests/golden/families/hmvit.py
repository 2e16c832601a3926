"""Runner of family ``hmvit``: the fusion network, the decoder, whole detectors, a training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.losses.build import build_loss
from opencood.models.build import build_model
from opencood.models.detector import Detector
from opencood.registry import REGISTRY
from tests.golden.case import Case

Results = dict[str, Any]
DIALECT = {"flavor": "codealign", "parity": "published"}


def run(case: Case) -> Results:
    """Build what the section ``model`` describes and call it."""
    model = case.meta["model"]
    if "loss" in case.meta:
        return run_training(case, model)
    for key, runner in RUNNERS.items():
        if key in model:
            return runner(case, model)
    raise LookupError(f"no runner for a case with {', '.join(model)}")


def run_fusion(case: Case, model: Mapping[str, Any]) -> Results:
    net = case.fill(REGISTRY.build("fusion", "hmvit", model["hmvit"])).eval()
    maps, kinds = case.tensor("x"), case.tensor("mode").long()
    slots = torch.arange(maps.shape[1])
    present = slots[None] < case.tensor("record_len")[:, None]
    assert torch.equal(present, case.tensor("mask") == 1)
    x = maps.permute(0, 1, 3, 4, 2)
    views = net.views(case.tensor("pairwise_t_matrix"), present, x)
    with torch.no_grad():
        return {
            "fused": net.fuse(x, views, kinds),
            "block": net.hetero_fusion_block(x, views, kinds).permute(0, 1, 4, 2, 3),
            "warp/feature": views.fetch(x).permute(0, 2, 1, 5, 3, 4),
            "warp/mask": views.covered.permute(0, 3, 4, 2, 1).float(),
        }


def run_decoder(case: Case, model: Mapping[str, Any]) -> Results:
    head = case.fill(REGISTRY.build("head", "hetero_decoder", model["hetero_decoder"])).eval()
    maps, kinds = case.tensor("x")[:, 0], case.tensor("mode")[:, 0].tolist()
    with torch.no_grad():
        return {f"upsample_{str(up).lower()}": head.decode(maps, kinds, upsample=up) for up in (False, True)}


def batch_of(case: Case) -> dict[str, Any]:
    tops = {name.split("/")[0] for name in case.inputs} - {"label"}
    batch = {top: case.tensor(top) if top in case.inputs else case.tensors(top) for top in sorted(tops)}
    assert batch["record_len"].tolist() == case.meta["record_len"]
    return batch | {"agent_modality_list": case.meta["agent_modality_list"]}


def run_model(case: Case, model: Mapping[str, Any]) -> Results:
    detector = case.fill(build_model({"model": model, **DIALECT})).eval()
    seen = Watched(detector)
    with torch.no_grad():
        outputs = detector(batch_of(case))
    depths = {name: value[0] for name, value in outputs.items() if name.startswith("depth_items")}
    return {**outputs, **seen.results, **depths}


class Watched:
    """What goes into and comes out of the fusion network."""

    def __init__(self, detector: Detector) -> None:
        self.results: dict[str, Tensor] = {}
        detector.get_submodule("fusion_net").register_forward_hook(self._note)

    def _note(self, net: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        (scene,) = inputs
        self.results = {
            "mode": scene.pad(scene.kind).to(torch.int32),
            "agent_features": scene.pad(scene.map),
            "fused": output,
        }


def run_training(case: Case, model: Mapping[str, Any]) -> Results:
    detector = case.fill(build_model({"model": model, **DIALECT})).train()
    outputs = detector(batch_of(case))
    total, terms = build_loss({"loss": case.meta["loss"], **DIALECT})(outputs, case.tensors("label"))
    total.backward()
    moved = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None and p.grad.any()}
    still = case.meta.raw()["parameters_without_gradient"]
    resting = {_prefix_of(name, still) for name, _ in detector.named_parameters() if name not in moved}
    case.check("parameters_without_gradient", sorted(resting))
    groups: dict[str, Tensor] = {}
    for name, gradient in moved.items():
        prefix = ".".join(name.split(".")[:2])
        groups[prefix] = groups.get(prefix, torch.zeros(())) + gradient.square().sum()
    norms = {f"grad_norm/{prefix}": square.sqrt() for prefix, square in groups.items()}
    return {"loss": total, "loss_dict": terms, "cls_preds": outputs["cls_preds"], **norms}


def _prefix_of(name: str, prefixes: list[str]) -> str:
    return next((p for p in prefixes if name == p or name.startswith(f"{p}.")), name)


RUNNERS: dict[str, Callable[[Case, Mapping[str, Any]], Results]] = {
    "args": run_model,
    "hmvit": run_fusion,
    "hetero_decoder": run_decoder,
}
