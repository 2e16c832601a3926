"""Cases of family ``codealign`` that call one loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from opencood.losses.build import build_loss
from tests.golden.case import Case
from tests.golden.families.codealign_models import DIALECT

Results = dict[str, Any]
# Scalars of the model that the cases give in words.
RECONSTRUCTION = {"loss_code_terms": 0.37, "loss_point_pillar_codebook_balanced": 0.41}


def fits(case: Case) -> bool:
    """Whether a case calls one loss."""
    return case.meta.raw().get("kind") == "loss"


def run(case: Case) -> Results:
    """Call it and go back to its inputs."""
    outputs, labels = _given(case)
    leaves = {name: value.requires_grad_() for name, value in _floating(outputs)}
    criterion = build_loss({"loss": case.meta["loss"], **DIALECT})
    loss, terms = criterion(outputs, labels)
    loss.backward()
    norms = {f"grad_norm/{name}": leaf.grad.norm() for name, leaf in leaves.items() if leaf.grad is not None}
    return {"loss": loss, "loss_dict": terms, **norms}


def _given(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    if any(name.startswith("output/") for name in case.inputs):
        return case.tensors("output"), case.tensors("target")
    tops = {name.split("/")[0] for name in case.inputs} - {"label"}
    outputs = {top: case.tensor(top) if top in case.inputs else case.tensors(top) for top in tops}
    if case.name in RECONSTRUCTION:
        outputs["codebook_loss"] = torch.tensor(RECONSTRUCTION[case.name])
    if "agent_modality_list" in case.meta:
        outputs["agent_modality_list"] = case.meta["agent_modality_list"]
    return outputs, case.tensors("label")


def _floating(outputs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """Inputs with a gradient, the warped features of a sample under its number."""
    found = [(name, value) for name, value in outputs.items() if isinstance(value, Tensor)]
    return found + [(str(i), maps) for i, maps in enumerate(outputs.get("single_feature_warped", ()))]
