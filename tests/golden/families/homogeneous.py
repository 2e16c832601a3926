"""Runner of family ``homogeneous``: models and losses of OpenCOOD, CoAlign, V2V4Real and V2X-Real."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from opencood.geometry.alignment import AlignmentOptions, align_boxes
from opencood.losses.build import build_loss
from opencood.losses.domain_adaptation import DomainAdaptation
from opencood.models.build import build_model
from tests.golden.case import Case

Results = dict[str, Any]
FLAVORS = {"OpenCOOD": "opencood", "CoAlign": "coalign", "V2V4Real": "v2v4real", "V2X-Real": "v2xreal"}
# Handed over in every batch of a family, whether the model reads them or not.
INFORMATION_INPUTS = ("clean_lidar_pose",)


def run(case: Case) -> Results:
    """Build what the case names and call it; pose corrections build nothing."""
    if "build" not in case.meta:
        return run_box_alignment(case)
    build = case.meta["build"]
    for key, runner in RUNNERS.items():
        if key in build:
            return runner(case, build)
    raise LookupError(f"no runner for a case that builds {', '.join(build)}")


def dialect(case: Case) -> dict[str, str]:
    return {"flavor": FLAVORS[case.meta["reference"]], "parity": "published"}


def run_model(case: Case, build: Mapping[str, Any]) -> Results:
    model = case.fill(build_model({"model": build["model"], **dialect(case)})).eval()
    tops = sorted({name.split("/")[0] for name in case.inputs})
    batch = {top: case.tensor(top) if top in case.inputs else case.tensors(top) for top in tops}
    with torch.no_grad():
        outputs = model(batch)
    case.check("output_keys", sorted(outputs), want=sorted(case.meta.raw()["output_keys"]))
    return outputs


def run_loss(case: Case, build: Mapping[str, Any]) -> Results:
    outputs = case.tensors("output")
    leaves = {name: value.requires_grad_() for name, value in outputs.items() if value.is_floating_point()}
    criterion = build_loss({"loss": build["loss"], **dialect(case)})
    total, terms = criterion(outputs, case.tensors("target"))
    total.backward()
    gradients = {f"grad/{name}": leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    return {"total_loss": total, **terms, **gradients}


def run_domain_adaptation(case: Case, build: Mapping[str, Any]) -> Results:
    outputs = {name: value.requires_grad_() for name, value in case.tensors("output").items()}
    adaptation = DomainAdaptation(**build["domain_adaptation"]).eval()
    case.fill(adaptation)
    total, terms = adaptation(outputs, {})
    total.backward()
    norms = {f"param_grad_norm/{n.replace('.', '/')}": p.grad.norm() for n, p in adaptation.named_parameters()}
    return {**terms, **norms, **{f"grad/{name}": value.grad for name, value in outputs.items()}}


def run_box_alignment(case: Case) -> Results:
    agents = range(len(case.inputs["noisy_lidar_pose"]))
    corners, uncertainty = ([case.inputs[f"{name}/{i}"] for i in agents] for name in ("corners", "uncertainty"))
    options = AlignmentOptions(**case.meta["args"])
    found = align_boxes(corners, case.inputs["noisy_lidar_pose"], uncertainty, options)
    whole_turns = np.round((case.wanted["refined"][:, 2] - found.poses[:, 2]) / 360)
    refined = np.column_stack([found.poses[:, :2], found.poses[:, 2] + 360 * whole_turns])
    return {"refined": refined, "cluster_of_box": found.cluster}


RUNNERS: dict[str, Callable[[Case, Mapping[str, Any]], Results]] = {
    "model": run_model,
    "loss": run_loss,
    "domain_adaptation": run_domain_adaptation,
}
