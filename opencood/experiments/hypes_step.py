"""One training step and one evaluation of a hypes file, shrunk, on a simulated frame of its own dataset's format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from opencood.communication import Channel
from opencood.config.loader import Hypes
from opencood.config.tree import lookup, section, with_value
from opencood.data.build import format_of, seed_of
from opencood.data.frame import EGO
from opencood.errors import ConfigError, DataError
from opencood.experiments.build import build_dataset, build_from_scratch, build_loss
from opencood.experiments.fusion_methods import choose_method, detect
from opencood.experiments.late_messages import CandidateBoxes
from opencood.experiments.shrink import shrink
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.stand_in_cameras import complete_frames
from opencood.experiments.teacher import build_teacher, with_teacher
from opencood.geometry.postprocessors.candidates import find_head
from opencood.models.adapter_training import AdapterTraining
from opencood.registry import REGISTRY
from opencood.training.order import seed_draws
from opencood.training.settings import settings_from
from opencood.training.step import Criterion, Shares

CANDIDATES = 100
THRESHOLD = "postprocess.target_args.score_threshold"
EPOCHS_LOOKED_AT = 6  # training draws modalities anew in each; enough to meet every one of four
STAND_IN = "opv2v"
_SCENE = SimulationOptions(Path(), preset="mini", scenarios=(1, 1, 0), frames=2, agents=(4, 4), seed=1)
# What cannot change a step: where data are, how long and how fast is trained.
_NOT_STEPPED = (
    "name",
    "root_dir",
    "validate_dir",
    "test_dir",
    "optimizer",
    "lr_scheduler",
    "yaml_parser",
    "train_params",
)


@dataclass(frozen=True)
class Stepped:
    """What one step did: the loss, the boxes found in one test frame, the modalities trained on, CPU seconds."""

    loss: float
    boxes: int
    modalities: tuple[str, ...]
    seconds: float
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        seen = f" on {'+'.join(self.modalities)}" if self.modalities else ""
        return f"loss {self.loss:.3g}{seen}, {self.boxes} boxes, {self.seconds:.1f} s"


def step_key(hypes: Hypes) -> str:
    """Digest of all that a step depends on; files with the same one take the same step."""
    content = {key: value for key, value in hypes.items() if key not in _NOT_STEPPED}
    content["max_cav"] = lookup(hypes, "train_params.max_cav")
    return hashlib.sha1(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def make_scenes(folder: Path, formats: set[str]) -> None:
    """Simulate a few frames for each format that has a writer, once, and for the one that stands in for the others."""
    for name in sorted({name if REGISTRY.has("writer", name) else STAND_IN for name in formats}):
        if not (folder / name).exists():
            agents = _SCENE.agents if name == STAND_IN else None  # other formats say how many they hold
            simulate(replace(_SCENE, out=folder / name, format=name, agents=agents))
            if name == STAND_IN:
                complete_frames(folder / name)


def step(hypes: Hypes, scenes: Path) -> Stepped:
    """Shrink a configuration, then one forward, loss, backward pass and one evaluation with post-processing.

    Raises:
        OpencoodError: something in the configuration does not fit; anything else that is raised is a defect.
    """
    started = perf_counter()
    name = format_of(hypes)
    used = name if REGISTRY.has("writer", name) else STAND_IN
    small = _on_scene(shrink(hypes), scenes / used, used)
    remarks = [f"no writer for {name} yet: stepped on {used} data"] if used != name else []
    if small.pop("box_align", None):
        remarks.append("box_align: left out, it needs boxes that were stored for these very frames")
    seed_draws(seed_of(small))
    model = build_from_scratch(small)
    small, (loss, modalities, told) = _trained(small, model)
    if isinstance(model, AdapterTraining):
        remarks.append("trains adapters, which detect nothing by themselves")
        return Stepped(loss, 0, modalities, perf_counter() - started, (*remarks, *told))
    boxes = test_once(small, model)
    return Stepped(loss, boxes, modalities, perf_counter() - started, (*remarks, *told))


def _trained(hypes: Hypes, model: nn.Module) -> tuple[Hypes, tuple[float, tuple[str, ...], tuple[str, ...]]]:
    """Train once on all modalities together, or else on the first that can be alone; returns what was trained on.

    In some published files the maps of the modalities fit neither each other nor all heads.
    """
    try:
        return hypes, train_once(hypes, model)
    except ConfigError as error:
        names = list(section(hypes, "heter.modality_setting"))
        if len(names) < 2:
            raise
        for name in names:
            alone = _with_only(hypes, name)
            with suppress(ConfigError, RuntimeError):
                loss, seen, told = train_once(alone, model)
                return alone, (loss, seen, (f"stepped on {name} alone: {error}", *told))
        raise


def _with_only(hypes: Hypes, name: str) -> Hypes:
    """The configuration with agents of one modality."""
    heter = section(hypes, "heter")
    names = [*section(heter, "mapping_dict"), *heter["modality_setting"]]
    alone = {
        "ego_modality": name,
        "modality_setting": {name: heter["modality_setting"][name]},
        "mapping_dict": dict.fromkeys(names, name),
    }
    return hypes.replaced({**hypes, "heter": {**heter, **alone}})


def train_once(hypes: Hypes, model: nn.Module) -> tuple[float, tuple[str, ...], tuple[str, ...]]:
    """Forward, loss and backward on one sample; returns the loss, the modalities of the sample, and remarks.

    Raises:
        DataError: no frame can be used, or the loss or a gradient is not finite.
    """
    dataset = build_dataset(hypes, train=True)
    criterion = Criterion(build_loss(hypes), dataset.supervise_single, settings_from(hypes).single_weight)
    model.train()
    ego = dataset.collate_batch_train([_sample(dataset)])[EGO]
    outputs = with_teacher(model({**ego, "epoch": 0}), build_teacher(hypes), ego)
    shares, remarks = _losses(criterion, outputs, ego)
    total = criterion.total(shares)
    if total.requires_grad:
        total.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not torch.isfinite(total) or not all(torch.isfinite(gradient).all() for gradient in gradients):
        raise DataError("the loss or a gradient of the first step is not finite.")
    return float(total.detach()), tuple(sorted(set(ego.get("agent_modality_list", ())))), remarks


def _losses(criterion: Criterion, outputs: Mapping[str, Any], ego: Mapping[str, Any]) -> tuple[Shares, tuple[str, ...]]:
    """The loss of each call; that of single agents is left out, with a remark, where a detector has no outputs for it.

    Published files for the inference of merged detectors still ask for supervision that only their stages had.
    """
    shares, remarks = {}, []
    for suffix, targets in criterion.calls(ego).items():
        try:
            shares[suffix] = criterion.loss(outputs, targets, suffix)
        except ConfigError as error:
            if not suffix:
                raise
            remarks.append(f"supervise_single: left out, the file can only be tested: {error}")
    return shares, tuple(remarks)


@torch.inference_mode()
def test_once(hypes: Hypes, model: nn.Module) -> int:
    """Detect and post-process one test frame; returns the number of boxes found.

    An untrained detector is sure of nothing, so the score threshold is lowered until some candidates pass.
    """
    dataset = build_dataset(hypes, train=False)
    batch = dataset.collate_batch_test([_sample(dataset)])
    outputs = model.eval()(batch[EGO])
    threshold = _threshold(outputs)
    if threshold is not None:
        hypes = hypes.replaced(with_value(hypes, THRESHOLD, threshold))
        dataset = build_dataset(hypes, train=False)
    seen, outputs = detect(choose_method(None, hypes), model, batch, Channel(), CandidateBoxes(dataset.post_processor))
    boxes, _, _ = dataset.post_process(seen, outputs)
    return 0 if boxes is None else len(boxes)


def _threshold(outputs: Mapping[str, Any]) -> float | None:
    """A score that ``CANDIDATES`` anchors of an agent exceed; None where the classes are called otherwise."""
    logits = find_head(outputs, "cls_preds")
    if not isinstance(logits, Tensor):
        return None
    scores = torch.sigmoid(logits.detach()).flatten()
    return float(scores.topk(min(CANDIDATES, len(scores))).values[-1])


def _on_scene(hypes: Hypes, scene: Path, dataset: str) -> Hypes:
    """The configuration with the simulated folders, its agents' modalities assigned in turn for the test."""
    content = {**hypes, "root_dir": str(scene / "train"), "validate_dir": str(scene / "validate")}
    content["fusion"] = {**section(hypes, "fusion"), "dataset": dataset}
    assignment = scene / f"{dataset}_4modality_in_order.json"
    if "heter" in hypes and assignment.is_file():
        content["heter"] = {**section(hypes, "heter"), "assignment_path": str(assignment)}
    return hypes.replaced({**content, "test_dir": content["validate_dir"]})


def _sample(dataset: Any) -> Any:
    """The sample with most modalities among those that hold objects in range, else the first there is.

    Raises:
        DataError: there is none.
    """
    usable, problem = None, "no agent takes part in any"
    for epoch, index in _by_modalities(dataset):
        dataset.reinitialize(epoch)
        try:
            sample = dataset[index]
        except DataError as error:
            problem = str(error)
            continue
        if sample is not None and sample[EGO]["object_bbx_mask"].any():
            return sample
        usable = usable or sample
    if usable is None:
        raise DataError(f"no simulated frame can be used: {problem}")
    return usable


def _by_modalities(dataset: Any) -> list[tuple[int, int]]:
    """(epoch, index) of all frames of some epochs, those with most modalities first."""
    counted = []
    for epoch in range(EPOCHS_LOOKED_AT):
        dataset.reinitialize(epoch)
        frames = [(index, dataset.frame(index).agents) for index in range(len(dataset))]
        counted += [(-len({agent.modality for agent in agents}), epoch, index) for index, agents in frames]
    return [(epoch, index) for _, epoch, index in sorted(counted)]
