"""Whole runs: configuration to losses per step, and to boxes and AP (spec e2e.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opencood.experiments.in_order import Entrance, in_order_keys
from opencood.models.build import build_model
from tests.golden.bands import band_bounds, pairing
from tests.golden.case import Case
from tests.golden.compare import Bound
from tests.golden.families.codealign_parts import silence
from tests.golden.legacy_random import LegacyRandom
from tests.golden.whole_run import InferenceRun, TrainingRun, configure, learning_rates, overwrite

# Diffusion schedules stay as built; the bounds and temperatures of codebooks are constants (e2e.md, "How to run one").
KEEP = ("*alphas_cumprod*", "*.betas", "*.posterior_*")
CONSTANTS = {"*._bound.bound": 1e-6, "*._temperature": 1.0}
NOISE_SEED = 303
FIRST_DRAW = 9  # the number under which a generator's start is noised
RATE_BOUND = Bound(atol=1e-12)
AP_TOLERANCE = 1e-3


def run(case: Case) -> dict[str, Any]:
    """Outputs of every part that the case has."""
    content = {"flavor": str(case.meta["reference"]).lower(), **case.hypes()}
    outputs: dict[str, Any] = {}
    if "training" in case.meta:
        outputs |= _train(case, content)
    if "result" in case.meta:
        outputs |= _levels(case, content)
    for part in ("infer_init", "infer_trained"):
        if part in case.meta:
            outputs |= _infer(case, content, part)
    return outputs


def _train(case: Case, content: Mapping[str, Any]) -> dict[str, Any]:
    if "drop_connect" in case.meta:
        content = _without_drop_connect(content)
    seen = TrainingRun(content, lambda model: _fill(case, model)).run(int(case.meta["training"]["steps"]))
    outputs = {f"train/{name}": value for name, value in seen.items()}
    hypes = configure(content)
    for name, wanted in case.wanted.items():
        start = re.fullmatch(r"lr/(?:epoch_0_\d+|resume_from_(\d+))", name)
        if start:
            first = int(start[1] or 0)
            outputs[name] = learning_rates(hypes, range(first, first + len(wanted)), first)
    return outputs


def _without_drop_connect(content: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with every image trunk in one piece, as such a case was recorded."""
    model = content["model"]
    args = {
        name: {**part, "encoder_args": {**part["encoder_args"], "drop_connect": 0.0}}
        if isinstance(part, Mapping) and part.get("sensor_type") == "camera"
        else part
        for name, part in model["args"].items()
    }
    return {**content, "model": {**model, "args": args}}


def _fill(case: Case, model: torch.nn.Module) -> None:
    case.fill(silence(model), keep_as_built=KEEP, overrides=CONSTANTS)
    if hasattr(model, "sampling"):
        last = model.gencomm.steps
        model.sampling.draws.source = lambda slots, draw, shape: _draws(
            slots, FIRST_DRAW if draw == last else draw, shape
        )


def _draws(slots: torch.Tensor, tag: int, shape: tuple[int, ...]) -> torch.Tensor:
    """The noise of such a case follows from agent and step alone."""
    draws = [np.random.default_rng([slot, tag]).standard_normal(shape) for slot in slots.tolist()]
    return torch.from_numpy(np.stack(draws)).float()


def _infer(case: Case, content: Mapping[str, Any], part: str) -> dict[str, Any]:
    facts = case.meta[part]
    weights = case.file("weights.npz") if part == "infer_trained" else None
    hypes = configure(_with_threshold(content, facts["score_threshold"]))
    return _prefixed(part, InferenceRun(hypes, _filled_model(case, hypes, weights)).run())


def _with_threshold(content: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    post = content["postprocess"]
    targets = {**post["target_args"], "score_threshold": threshold}
    return {**content, "postprocess": {**post, "target_args": targets}}


def _filled_model(case: Case, hypes: Mapping[str, Any], weights: Path | None) -> torch.nn.Module:
    model = build_model(hypes)
    if case.state_dict:
        _fill(case, model)
    if weights is not None:
        overwrite(model, weights)
    return model


def _levels(case: Case, content: Mapping[str, Any]) -> dict[str, Any]:
    """The in-order and noise tools: one evaluation per key of ``result``."""
    text = case.meta["weights"]
    neighbour = re.search(r"\.\./(\w+)/weights\.npz", text)
    weights = case.folder.parent / neighbour[1] / "weights.npz" if neighbour else case.file("weights.npz")
    outputs: dict[str, Any] = {}
    for level in case.meta["result"]:
        changed, draws = _tool_setting(case, content, level)
        hypes = configure(changed)
        outputs |= _prefixed(level, InferenceRun(hypes, _filled_model(case, hypes, weights), draws).run())
    return outputs


def _tool_setting(case: Case, content: Mapping[str, Any], level: str) -> tuple[Mapping[str, Any], LegacyRandom | None]:
    """Configuration and generators of one level: ``use_cav<n>``, ``gauss_<std>`` or ``laplace_<std>``."""
    kind, _, value = level.partition("_")
    if kind == "use":
        return _in_order(case, content, int(value.removeprefix("cav"))), None
    deviation = float(value)
    noise = {"pos_std": deviation, "rot_std": deviation, "pos_mean": 0, "rot_mean": 0, "laplace": kind == "laplace"}
    draws = LegacyRandom()
    draws.seed(NOISE_SEED)
    return {**content, "noise_setting": {"add_noise": True, "args": noise}}, draws


def _in_order(case: Case, content: Mapping[str, Any], agents: int) -> dict[str, Any]:
    """What the in-order tool changes (tools.md section 3)."""
    changes = in_order_keys({**content, "parity": "published"}, Entrance(agents))
    overrides = case.meta["tool_overrides"]
    for key in ("ego_modality", "lidar_channels_dict"):
        case.check(f"tool_overrides/{key}", changes["heter"][key], overrides[key])
    identity = all(name == modality for name, modality in changes["heter"]["mapping_dict"].items())
    case.check("tool_overrides/mapping_dict", identity, overrides["mapping_dict"] == "identity m1..m4")
    case.check("tool_overrides/comm_range", changes["comm_range"], overrides["comm_range"])
    case.check("tool_overrides/fusion_core_method", changes["fusion"]["core_method"], overrides["fusion_core_method"])
    case.path(Path(changes["heter"]["assignment_path"]).name)
    return {**content, **changes}


def _prefixed(name: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}/{key}": value for key, value in outputs.items()}


def compare(case: Case, got: Mapping[str, Any]) -> None:
    """Compare by the nested tolerances of the family."""
    for name in case.wanted:
        if got.get(name) is None:
            case.compared(name)
            case.problem(f"{name}: the run produced nothing under this name")
        elif name.startswith("train/") and name != "train/lr_per_epoch_of_run":
            case.compare_array(name, got[name], _training_bound(case, name))
        elif name.startswith(("train/", "lr/")):
            case.compare_array(name, got[name], RATE_BOUND)
        else:
            _compare_detection(case, name, got)
    for part in ("infer_init", "infer_trained"):
        if part in case.meta:
            _compare_summary(case, part, part, case.meta[part], got)
    for level, facts in case.meta.get("result", {}).items():
        _compare_summary(case, "result", level, facts, got)


def _training_bound(case: Case, name: str) -> Bound:
    """Bands of a series of losses, or the bound of one number."""
    tolerance, want = case.meta["tolerance"], case.wanted[name]
    quantity = name.split("/")[1]
    if want.ndim == 0:
        return Bound(rtol=float(tolerance["scalars"][quantity]["rtol"]))
    bands = tolerance["loss_total" if quantity == "loss" else "losses"]
    return Bound(atol=band_bounds(bands, want))


def _compare_detection(case: Case, name: str, got: Mapping[str, Any]) -> None:
    part, _, quantity = name.partition("/")
    tolerance = case.meta[part]["tolerance"] if part in case.meta else case.meta["tolerance"]
    leaf = quantity.rpartition("/")[2]
    value = np.asarray(got[name])
    if leaf == "box":
        value = value[pairing(case.wanted[name], value)]
        bound = Bound(atol=tolerance["box"])
    elif leaf == "score":
        boxes = name.removesuffix("score") + "box"
        value = value[pairing(case.wanted[boxes], np.asarray(got[boxes]))]
        bound = Bound(atol=tolerance["score"])
    elif leaf == "gt":
        value = value[pairing(case.wanted[name], value)]
        bound = Bound(atol=tolerance["box"])
    elif leaf == "lidar_pose":
        bound = Bound(atol=tolerance["lidar_pose"])
    elif quantity.startswith("ap_"):
        bound = Bound(atol=tolerance.get("ap", AP_TOLERANCE))
    else:
        bound = Bound()
    case.compare_array(name, value, bound)


def _compare_summary(case: Case, key: str, part: str, facts: Mapping[str, Any], got: Mapping[str, Any]) -> None:
    """Box counts (exact) and AP as ``case.yaml`` repeats them."""
    case.ledger.values.add(key)
    count = len(facts["boxes_per_frame"])
    boxes = [len(got[f"{part}/frame{i}/box"]) for i in range(count) if f"{part}/frame{i}/box" in got]
    case.check(f"{key}/{part}/boxes_per_frame", boxes, facts["boxes_per_frame"])
    tolerance = facts.get("tolerance", case.meta["tolerance"]).get("ap", AP_TOLERANCE)
    for name, want in facts["ap"].items():
        case.ledger.values.add(f"{key}/{part}/{name}")
        value = float(got[f"{part}/{name}"])
        if not abs(value - want) <= tolerance:
            case.problem(f"{key}/{part}/{name}: want {want}, got {value:.6f}")
