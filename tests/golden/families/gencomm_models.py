"""Golden family ``gencomm``, the models: parts, detectors and losses (spec gencomm.md, 1 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opencood.evaluation.average_precision import average_precision
from opencood.evaluation.matching import match_frame
from opencood.losses.build import build_loss
from opencood.models.build import build_model
from opencood.models.context import Context
from opencood.models.links.adapters import Translator
from opencood.models.links.codefilling_mask import CommunicationMask
from opencood.models.links.enhancer import ChannelEnhancer
from opencood.models.links.message_extractor import MessageExtractor
from opencood.models.links.mpda import CrossDomainTransformer, DomainClassifier, Resizer
from opencood.models.links.quantizer import Codebook
from opencood.models.parts_gencomm import CODEFILLING_LEVELS, generator
from opencood.models.scene import SceneFeatures
from tests.golden.case import Case

Outputs = dict[str, Any]
DIALECT = {"flavor": "gencomm", "parity": "published"}
_FOUND = ("det", "score")
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


def _resizer(case: Case) -> Outputs:
    module = case.fill(Resizer(**case.meta["args"])).eval()
    with torch.no_grad():
        return {"y": module(tuple(case.tensor("ego").shape[-2:]), case.tensor("cav"))}


def _cross_domain_transformer(case: Case) -> Outputs:
    module = case.fill(CrossDomainTransformer(**case.meta["args"])).eval()
    with torch.no_grad():
        return {"y": module(case.tensor("ego"), case.tensor("cav"))}


def _domain_classifier(case: Case) -> Outputs:
    module = case.fill(DomainClassifier(**case.meta["args"])).eval()
    x = case.tensor("x").requires_grad_()
    y = module(x)
    (y**2).mean().backward()
    return {"y": y, "grad_x": x.grad, **_gradient_norms(module)}


def _translator(case: Case) -> Outputs:
    args, role = case.meta["args"], case.meta["module"]
    module = case.fill(Translator(role, args["core_method"], args["args"])).eval()
    with torch.no_grad():
        return {"y": module(case.tensor("x"))}


def _quantizer(case: Case) -> Outputs:
    module = case.fill(Codebook(**case.meta["args"], r=CODEFILLING_LEVELS)).eval()
    x = case.tensor("x").requires_grad_()
    samples, logits = module.choose(x, lambda level, _: case.tensor(f"uniform{level}"))
    restored = module.get_feature(samples)
    loss = ((restored - x.detach()) ** 2).mean()
    (loss + (restored * case.tensor("probe")).mean()).backward()
    return {
        "y": restored,
        "loss": loss,
        "code": [scores.argmax(dim=-1) for scores in logits],
        "logit_stats": [scores[:4] for scores in logits],
        **_gradient_norms(module, grad_x=x),
    }


def _communication(case: Case) -> Outputs:
    module = case.fill(CommunicationMask(**case.meta["args"])).eval()
    affine = case.tensor("affine")
    poses = torch.eye(4).repeat(*affine.shape[:3], 1, 1)
    poses[..., :2, :2], poses[..., :2, 3] = affine[..., :2], affine[..., 2]
    # on a map of 2 x 2 metres poses and normalised affines are the same numbers
    scene = SceneFeatures((), tuple(case.tensor("record_len").tolist()), poses, extent=(2.0, 2.0))
    with torch.no_grad():
        confidence = module.confidence(case.tensor("cls"))
        mask = module.worth_sending(confidence) * module.selected(confidence, scene)
        rate = module.rate(mask, scene)
        mask[scene.egos] = 1.0
    maps = [confidence[rows] * mask[rows] for rows in torch.arange(scene.agents).split(list(scene.record_len))]
    return {"mask": mask, "rate": rate, "maps": maps}


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
    if "loss" in case.wanted:
        return _adapters(model, _batch(case))
    with torch.no_grad():
        return model(_batch(case))


def _adapters(model: nn.Module, batch: Mapping[str, Any]) -> Outputs:
    """STAMP's features, and the gradient of its loss with the published weights."""
    features = model(batch)
    weights = {"alpha_P2M": 9.0, "alpha_M2P2M": 1.0, "alpha_M2P": 10.0}
    loss, _ = build_loss({"loss": {"core_method": "adapter_loss", "args": weights}})(features, {})
    loss.backward()
    norms = {f"grad_norm/{name}": _norm(model.get_submodule(name)) for name in ("adapter_m1", "reverter_m1")}
    return {**features, "loss": loss, **norms}


def _norm(module: nn.Module) -> Tensor:
    return torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()


def _give_draws(case: Case, model: nn.Module) -> None:
    """Hand the stored draws of all agents to the part that draws."""
    if hasattr(model, "gencomm"):
        noise = _stored_noise(case, model.gencomm.steps)
        model.sampling.draws.source = lambda slots, number, shape: noise(number, torch.zeros(()))
    if hasattr(model, "coodbook"):
        agents = len(case.meta["agent_modality_list"])

        def uniform(slots: Tensor, level: int, shape: tuple[int, ...]) -> Tensor:
            return case.tensor(f"uniform_u8_{level}").float().div(_UNIFORM_UNIT).view(agents, *shape)

        model.word_draws.uniform.source = uniform


# --- losses -------------------------------------------------------------------------------------


def _loss(case: Case) -> Outputs:
    outputs, targets = case.tensors("output"), case.tensors("target")
    leaves = {name: x.requires_grad_() for name, x in outputs.items() if x.is_floating_point()}
    loss, terms = build_loss({"loss": case.meta["loss"], **DIALECT})(outputs, targets)
    loss.backward()
    norms = {f"grad_norm/{name}": x.grad.norm() for name, x in leaves.items() if x.grad is not None}
    return {"loss": loss, "parts": terms, **norms}


def _average_precisions(case: Case) -> Outputs:
    """Both orders at three thresholds, in percent; a frame without detections has no ``det``."""
    percents = sorted({int(name.rpartition("/")[2]) for name in case.wanted})
    thresholds = [percent / 100 for percent in percents]
    numbers = sorted(int(name.removeprefix("gt/")) for name in case.inputs if name.startswith("gt/"))
    frames = []
    for number in numbers:
        found = [case.inputs.get(f"{name}/{number}") for name in _FOUND]
        frames.append(match_frame(*found, case.inputs[f"gt/{number}"], thresholds))
    outputs: Outputs = {}
    for percent, threshold in zip(percents, thresholds, strict=True):
        for order, by_score in (("global", True), ("perframe", False)):
            outputs[f"ap_{order}/{percent}"] = np.array(average_precision(frames, threshold, by_score).ap)
        outputs[f"tp/{percent}"] = np.concatenate([frame.true_positive[threshold] for frame in frames])
    return outputs


def _module(name: str) -> Callable[[Case], bool]:
    return lambda case: case.meta.raw().get("module") == name and case.meta["module"] == name


# What tells a kind of case -> what runs it. The first that fits.
KINDS: tuple[tuple[Callable[[Case], bool], Callable[[Case], Mapping[str, Any]]], ...] = (
    (_module("message extractor"), _message_extractor),
    (_module("denoiser"), _denoiser),
    (_module("generator"), _generator),
    (_module("enhancer"), _enhancer),
    (_module("resizer"), _resizer),
    (_module("cdt"), _cross_domain_transformer),
    (_module("classifier"), _domain_classifier),
    (_module("adapter"), _translator),
    (_module("reverter"), _translator),
    (_module("codebook"), _quantizer),
    (_module("communication"), _communication),
    (lambda case: "model" in case.meta, _detector),
    (lambda case: "loss" in case.meta, _loss),
    (lambda case: "gt/0" in case.inputs, _average_precisions),
)
