"""Golden family ``gencomm``, the models: parts, detectors and losses (spec gencomm.md, 1 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.models.build import build_model
from opencood.models.context import Context
from opencood.models.links.enhancer import ChannelEnhancer
from opencood.models.links.message_extractor import MessageExtractor
from opencood.models.parts_gencomm import generator
from opencood.models.scene import SceneFeatures
from tests.golden.case import Case

Outputs = dict[str, Any]
DIALECT = {"flavor": "gencomm", "parity": "published"}
_NOISE_UNIT, _UNIFORM_UNIT = 32, 256  # stored as whole numbers


# --- parts --------------------------------------------------------------------------------------


def _gradient_norms(module: nn.Module, **inputs: Tensor) -> Outputs:
    norms = {f"grad_norm/{name}": p.grad.norm() for name, p in module.named_parameters() if p.grad is not None}
    return norms | {name: x.grad.norm() for name, x in inputs.items() if x.grad is not None}


def _message_extractor(case: Case) -> Outputs:
    args = case.meta["args"]
    module = case.fill(MessageExtractor(args["in_channels"], args["out_channels"])).eval()
    x = case.tensor("x").requires_grad_()
    y = module(x)
    (y**2).mean().backward()
    return {"y": y, **_gradient_norms(module, grad_x_norm=x)}


def _generator_of(case: Case) -> nn.Module:
    return generator(Context(DIALECT, {"gencomm": case.meta["gencomm"]}))


def _denoiser(case: Case) -> Outputs:
    module = case.fill(_generator_of(case).denoiser).eval()
    with torch.no_grad():
        return {"y": module(case.tensor("x"), case.tensor("t"))}


def _stored_noise(case: Case, steps: int) -> Callable[[int, Tensor], Tensor]:
    """Draw ``steps`` is called ``init``, draw t ``t<t>``; some cases store it in whole numbers."""
    unit, folder = (_NOISE_UNIT, "noise_q32") if "noise_q32/init" in case.inputs else (1, "noise")

    def noise(number: int, like: Tensor) -> Tensor:
        name = "init" if number == steps else f"t{number}"
        return case.tensor(f"{folder}/{name}").to(like) / unit

    return noise


def _generator(case: Case) -> Outputs:
    module = case.fill(_generator_of(case))
    feature, message = (case.tensor(name).requires_grad_() for name in ("feature", "message"))
    layout = SceneFeatures((feature,), tuple(case.tensor("record_len").tolist()))
    start = layout.of_egos().map[layout.places[0]]
    generated = module(start, message, _stored_noise(case, module.steps))
    outputs: Outputs = {"pred_feature": generated, "schedule": dict(module.named_buffers(recurse=False))}
    if "target" in case.inputs:
        loss = ((generated - case.tensor("target")) ** 2).mean()
        loss.backward()
        outputs |= _gradient_norms(module, grad_message=message, grad_feature=feature)
        outputs |= {"loss": loss, "pred_shape": torch.tensor(generated.shape)}
    return outputs


def _enhancer(case: Case) -> Outputs:
    module = case.fill(ChannelEnhancer(**case.meta["args"])).eval()
    assert len(case.tensor("x")) == case.tensor("record_len").sum()
    with torch.no_grad():
        return {"y": module(case.tensor("x"))}


# --- detectors ----------------------------------------------------------------------------------


def _batch(case: Case) -> dict[str, Any]:
    tops = {name.split("/")[0] for name in case.inputs if not name.startswith(("noise", "uniform"))}
    batch = {top: case.tensor(top) if top in case.inputs else case.tensors(top) for top in sorted(tops)}
    return batch | {"agent_modality_list": case.meta["agent_modality_list"]}


def _detector(case: Case) -> Outputs:
    model = case.fill(build_model({"model": case.meta["model"], **DIALECT})).eval()
    model.train()
    trainable = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    case.check("trainable", sorted(trainable))
    model.eval()
    _give_draws(case, model)
    with torch.no_grad():
        return model(_batch(case))


def _give_draws(case: Case, model: nn.Module) -> None:
    """Hand the stored draws of all agents to the part that draws."""
    if hasattr(model, "gencomm"):
        noise = _stored_noise(case, model.gencomm.steps)
        model.sampling.draws.source = lambda slots, number, shape: noise(number, torch.zeros(()))


def _module(name: str) -> Callable[[Case], bool]:
    return lambda case: case.meta.raw().get("module") == name and case.meta["module"] == name


# What tells a kind of case -> what runs it. The first that fits.
KINDS: tuple[tuple[Callable[[Case], bool], Callable[[Case], Mapping[str, Any]]], ...] = (
    (_module("message extractor"), _message_extractor),
    (_module("denoiser"), _denoiser),
    (_module("generator"), _generator),
    (_module("enhancer"), _enhancer),
    (lambda case: "model" in case.meta, _detector),
)
