"""One training step and one evaluation of a hypes file, shrunk, on a simulated frame of its own dataset's format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from opencood.communication import Channel
from opencood.config.loader import Hypes
from opencood.config.overrides import update_dict
from opencood.config.pretrain import is_pretraining
from opencood.config.tree import lookup, section, with_value
from opencood.data.build import format_of, seed_of
from opencood.data.frame import EGO
from opencood.errors import ConfigError, DataError, OpencoodError
from opencood.experiments.adaptation import SECOND, adapted, adapts_domains
from opencood.experiments.build import build_dataset, build_from_scratch, build_loss
from opencood.experiments.distillation import untrained_teacher
from opencood.experiments.fusion_methods import choose_method, detect
from opencood.experiments.late_messages import CandidateBoxes
from opencood.experiments.shrink import shrink
from opencood.experiments.step_changes import changes
from opencood.experiments.step_scenes import on_scene
from opencood.geometry.postprocessors.candidates import find_head
from opencood.models.adapter_training import AdapterTraining
from opencood.training.order import seed_draws
from opencood.training.settings import settings_from
from opencood.training.step import Criterion, Shares, has_objects

CANDIDATES = 100
THRESHOLD = "postprocess.target_args.score_threshold"
EPOCHS_LOOKED_AT = 6  # training draws modalities anew in each; enough to meet every one of four
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


class BadStep(OpencoodError):
    """A step was taken, but nothing could be learned from it."""


@dataclass(frozen=True)
class Trained:
    """The loss of a training step (None without one), the modalities of its sample, and what had to be changed."""

    loss: float | None
    modalities: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stepped:
    """What one step did.

    Attributes:
        loss: of the training step; None where the file has no loss.
        boxes: found in one test frame.
        modalities: of the agents trained on.
        seconds: processor time of all threads.
        remarks: what was left out or changed so that the step could be taken.
    """

    loss: float | None
    boxes: int
    modalities: tuple[str, ...]
    seconds: float
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        seen = f" on {'+'.join(self.modalities)}" if self.modalities else ""
        loss = "no loss" if self.loss is None else f"loss {self.loss:.3g}"
        return f"{loss}{seen}, {self.boxes} boxes, {self.seconds:.1f} s"


def step_key(hypes: Hypes) -> str:
    """Digest of all that a step depends on; files with the same one take the same step."""
    content = {key: value for key, value in hypes.items() if key not in _NOT_STEPPED}
    content["max_cav"] = lookup(hypes, "train_params.max_cav")
    return hashlib.sha1(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def step(hypes: Hypes, scenes: Path) -> Stepped:
    """Shrink a configuration, then one forward, loss, backward pass and one evaluation with post-processing.

    Raises:
        OpencoodError: something in the configuration does not fit; anything else that is raised is a defect.
    """
    started = process_time()
    small = on_scene(shrink(hypes), scenes, format_of(hypes))
    remarks = []
    if small.pop("box_align", None):
        remarks.append("box_align: left out, it needs boxes that were stored for these very frames")
    seed_draws(seed_of(small))
    model = build_from_scratch(small)
    small, trained = _trained(small, model)
    remarks += trained.remarks
    if isinstance(model, AdapterTraining) or is_pretraining(small):
        what = "adapters" if isinstance(model, AdapterTraining) else "an encoder"
        remarks.append(f"trains {what}, which detects nothing by itself")
        boxes = 0
    else:
        boxes = test_once(small, model)
    return Stepped(trained.loss, boxes, trained.modalities, process_time() - started, tuple(remarks))


def _trained(hypes: Hypes, model: nn.Module) -> tuple[Hypes, Trained]:
    """Train once, if need be with one thing changed; returns the configuration that was trained on, too.

    Raises:
        ConfigError: parts of the configuration do not fit, whatever is changed.
    """
    try:
        return hypes, train_once(hypes, model)
    except (ConfigError, DataError) as error:
        for change, changed in changes(hypes):
            with suppress(ConfigError, DataError):
                again = model if changed["model"] == hypes["model"] else build_from_scratch(changed)
                trained = train_once(changed, again)
                return changed, replace(trained, remarks=(f"stepped {change}: {error}", *trained.remarks))
        raise


def train_once(hypes: Hypes, model: nn.Module) -> Trained:
    """Forward, loss and backward on one sample.

    Raises:
        DataError: no frame can be used.
        BadStep: the loss or a gradient is not finite, or there is no gradient at all.
    """
    dataset, loss = build_dataset(hypes, train=True), build_loss(hypes) if _has_loss(hypes, model) else None
    model.train()
    sample = _sample(dataset)
    if adapts_domains(hypes):  # the other domain is the same scene
        there = hypes.replaced({**hypes, SECOND: hypes["root_dir"]})
        model, loss, dataset = adapted(there, model, loss, dataset)
        sample = (sample, sample)
    ego = dataset.collate_batch_train([sample])[EGO]
    outputs = model({**ego, "epoch": 0})
    modalities = tuple(sorted(set(ego.get("agent_modality_list", ()))))
    if loss is None:
        return Trained(None, modalities, ("the file has no loss for it: forward passes and post-processing only",))
    teacher = untrained_teacher(hypes)
    if teacher is not None:
        with torch.no_grad():
            outputs = {**teacher(ego), **outputs}
    criterion = Criterion(loss, dataset.supervise_single, settings_from(hypes).single_weight)
    shares, remarks = _losses(criterion, outputs, ego)
    total = criterion.total(shares)
    if total.requires_grad:
        total.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not torch.isfinite(total) or not all(torch.isfinite(gradient).all() for gradient in gradients):
        raise BadStep("the loss or a gradient of the first step is not finite.")
    if total.requires_grad and not any(gradient.any() for gradient in gradients):
        raise BadStep("no parameter gets a gradient from the loss.")
    return Trained(float(total.detach()), modalities, remarks)


def _has_loss(hypes: Hypes, model: nn.Module) -> bool:
    """Whether a detector is judged: files to look at data have no loss, merged detectors perhaps another type's."""
    by_type = [part for part in section(hypes, "loss").values() if isinstance(part, Mapping) and "core_method" in part]
    if not by_type or len(by_type) < len(hypes["loss"]) or isinstance(model, AdapterTraining):
        return "loss" in hypes
    return lookup(hypes, "model.args.ego_modality") in hypes["loss"]


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
        hypes = hypes.replaced(_with_threshold(hypes, threshold))
        dataset = build_dataset(hypes, train=False)
    reduce = CandidateBoxes(dataset.post_processor, dataset.post_processors)
    seen, outputs = detect(choose_method(None, hypes), model, batch, Channel(), reduce)
    boxes, _, _ = dataset.post_process(seen, outputs)
    return 0 if boxes is None else len(boxes)


def _with_threshold(hypes: Hypes, threshold: float) -> dict[str, Any]:
    """The configuration with another score threshold, which STAMP's files have for each type."""
    if lookup(hypes, "postprocess.core_method") is None:
        return update_dict(hypes, {"score_threshold": threshold})
    return with_value(hypes, THRESHOLD, threshold)


def _threshold(outputs: Mapping[str, Any]) -> float | None:
    """A score that ``CANDIDATES`` anchors of an agent exceed; None where the classes are called otherwise."""
    logits = find_head(outputs, "cls_preds")
    if not isinstance(logits, Tensor):
        return None
    scores = torch.sigmoid(logits.detach()).flatten()
    return float(scores.topk(min(CANDIDATES, len(scores))).values[-1])


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
        if sample is not None and has_objects(sample[EGO]):
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
