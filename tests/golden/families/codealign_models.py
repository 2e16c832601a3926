"""Cases of family ``codealign`` that build a detector: forwards in eval mode, and training steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.losses.build import build_loss
from opencood.models.build import build_model
from opencood.models.links.quantizer import Codebook
from opencood.models.links.sampling import straight_through
from tests.golden.case import Case
from tests.golden.families.codealign_parts import OVERRIDES, grad_norms, silence

Results = dict[str, Any]
DIALECT = {"flavor": "codealign", "parity": "published"}
# The reference walks the modalities of this model in the order of a set.
UNORDERED = ("heter_codebook_shared_head_c2c_infer",)
KINDS = ("model eval forward", "training step", "method eval")
# A fixed filter.
KEPT = ("naive_communication.*",)


def fits(case: Case) -> bool:
    """Whether a case builds a detector."""
    return case.meta.raw().get("kind") in KINDS


def run(case: Case) -> Results:
    """Build it, fill it, call it."""
    runners = {"model eval forward": run_eval, "training step": run_training, "method eval": run_method}
    return runners[case.meta.raw()["kind"]](case)


def build(case: Case) -> nn.Module:
    """The detector without noise and with the golden values; checkpoints are placeholders and not read."""
    assert case.meta["overrides"]
    section = case.meta["model"]
    flag = case.meta.get("train_flag", False)
    model = build_model({"model": section, "missing_checkpoints": "scratch", **DIALECT}, train_flag=flag)
    case.fill(model, keep_as_built=KEPT, overrides=OVERRIDES, ordered=section["core_method"] not in UNORDERED)
    return silence(model)


def batch_of(case: Case) -> dict[str, Any]:
    """The batch dict, without the labels."""
    tops = {name.split("/")[0] for name in case.inputs} - {"label", "label_single"}
    batch = {top: case.tensors(top) if top not in case.inputs else case.tensor(top) for top in sorted(tops)}
    if "record_len" in case.meta:
        assert case.meta["record_len"] == batch["record_len"].tolist()
    return batch | {"agent_modality_list": case.meta["agent_modality_list"]}


def run_eval(case: Case) -> Results:
    model = build(case).eval()
    spy = Codes(model)
    with torch.no_grad():
        outputs = model(batch_of(case))
    return {**_published(outputs), **spy.as_stored(case)}


def run_method(case: Case) -> Results:
    """``single_forward``: the detections of every agent by itself."""
    model = build(case).eval()
    with torch.no_grad():
        return model.single_forward(batch_of(case) | {"cav_id_list": case.meta["cav_id_list"]})


def run_training(case: Case) -> Results:
    assert case.meta.raw()["procedure"]
    model = build(case).train()
    results = step(case, model)
    if "per_sample_modalities" in case.meta:
        each = step(case, model, {"code_terms_flat_modalities": False})
        _check_numbers(case, "per_sample_modalities", case.meta["per_sample_modalities"], each)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    prefixes = sorted(case.meta.raw()["trainable_prefixes"])
    depth = {prefix.count(".") for prefix in prefixes}
    (dots,) = depth
    found = {".".join(name.split(".")[: dots + 1]) for name in trainable}
    case.check("trainable_prefixes", sorted(found | _shared_names(model, trainable, dots)), want=prefixes)
    if "chosen_backend" in case.meta.raw():
        case.check("chosen_backend", results["backend_modality"])
    return results


def step(case: Case, model: nn.Module, quirks: Mapping[str, Any] | None = None) -> Results:
    """Forward, loss, backward from zero gradients."""
    model.zero_grad()
    outputs = model(batch_of(case))
    criterion = build_loss({"loss": case.meta["loss"], "quirks": dict(quirks or {}), **DIALECT})
    loss, terms = criterion(outputs, case.tensors("label"))
    loss.backward()
    return {**_published(outputs), "loss": loss, "loss_dict": terms, **grad_norms(model, case.wanted)}


def _check_numbers(case: Case, key: str, wanted: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Compare numbers of ``case.yaml`` with the tolerances of its arrays."""
    bounds = case.meta.raw()["tolerance"]
    for name, value in _flat(wanted).items():
        found = torch.as_tensor(got[name] if name in got else got[name.split("/")[0]][name.split("/")[1]]).item()
        relative = bounds["grad_norm_rtol" if name.startswith("grad_norm") else "rtol"]
        if abs(found - value) > relative * abs(value) + bounds["atol"]:
            case.problem(f"{key}/{name}: want {value}, got {found}")


def _flat(tree: Mapping[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in tree.items():
        flat |= {f"{name}/{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _shared_names(model: nn.Module, trainable: set[str], dots: int) -> set[str]:
    """Prefixes of the other names of shared parameters."""
    known = dict(model.named_parameters())
    every = model.named_parameters(remove_duplicate=False)
    ids = {id(known[name]) for name in trainable}
    return {".".join(name.split(".")[: dots + 1]) for name, parameter in every if id(parameter) in ids}


def _published(outputs: Mapping[str, Any]) -> Results:
    return {name: value for name, value in outputs.items() if name != "agent_modality_list"}


class Codes:
    """Overhears every quantiser and translator of a detector."""

    def __init__(self, model: nn.Module) -> None:
        self.heard: dict[str, list[Tensor]] = {}
        for name, module in model.named_modules():
            if isinstance(module, Codebook):
                self._listen(name.replace(".", "_"), module)
            elif name.split(".")[0].startswith(("translator", "code2code")) and "." not in name:
                module.register_forward_hook(self._translated(name))

    def _listen(self, name: str, codebook: Codebook) -> None:
        sample = codebook._sample

        def heard(cells: Tensor) -> tuple[list[Tensor], list[Tensor]]:
            samples, logits = sample(cells)
            self.heard.setdefault(name, []).append([level.argmax(-1) for level in logits])
            return samples, logits

        codebook._sample = heard

    def _translated(self, name: str) -> Any:
        def heard(module: nn.Module, given: Any, logits: Tensor) -> None:
            self.heard.setdefault(name, []).append(straight_through(logits, 1).argmax(1))

        return heard

    def as_stored(self, case: Case) -> Results:
        """``codes/<module>/<call>[/<level>]``: what was heard, cut into the calls of the reference."""
        results: Results = {}
        stored = [name for name in case.wanted if name.startswith("codes/")]
        for module in dict.fromkeys(name.split("/")[1] for name in stored):
            calls = self._in_agent_order(self.heard.get(module, []), case.meta["agent_modality_list"], module, stored)
            for name in (name for name in stored if name.split("/")[1] == module):
                _, _, call, *level = name.split("/")
                rows = torch.cat([heard[int(level[0])] if level else heard for heard in calls])
                first = sum(len(case.wanted[f"codes/{module}/{i}{'/0' if level else ''}"]) for i in range(int(call)))
                results[name] = rows[first : first + len(case.wanted[name])]
        return results

    @staticmethod
    def _in_agent_order(calls: list[Any], names: list[str], module: str, stored: list[str]) -> list[Any]:
        """Calls as they were heard, or, where the reference makes one call of all agents, one per agent in order."""
        modalities = list(dict.fromkeys(names))
        if f"codes/{module}/1/0" in stored or len(calls) != len(modalities):
            return calls
        per_agent: dict[int, list[Tensor]] = {}
        for m, levels in zip(modalities, calls, strict=True):
            rows = [row for row, name in enumerate(names) if name == m]
            for row, *parts in zip(rows, *(level.chunk(len(rows)) for level in levels), strict=True):
                per_agent[row] = parts
        return [per_agent[row] for row in sorted(per_agent)]
