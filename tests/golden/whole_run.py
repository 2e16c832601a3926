"""The whole chain through the product's public parts: configuration, data, model, loss, steps; boxes and AP."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opencood.config.loader import Hypes, load_mapping
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.evaluation.average_precision import average_precision
from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.evaluation.report import THRESHOLDS, match_all
from opencood.experiments.fusion_methods import dataset_family
from opencood.losses.build import build_loss
from opencood.models.build import build_model
from opencood.training.distributed import World
from opencood.training.optimizers import build_optimizer, set_rates
from opencood.training.schedules import build_schedule, closed_form_epoch
from opencood.training.step import Criterion, Stepper
from tests.golden.legacy_random import LegacyRandom

Batch = dict[str, dict[str, Any]]


def configure(content: Mapping[str, Any], **changes: Any) -> Hypes:
    """Parse a raw configuration, as loading its file would."""
    return load_mapping({**content, **changes}, name="case.yaml")


def learning_rates(hypes: Mapping[str, Any], epochs: Iterable[int], first_epoch: int = 0) -> list[float]:
    """Rate during each 0-based epoch of a run that started at ``first_epoch``."""
    schedule = build_schedule(hypes["lr_scheduler"])
    return [schedule(float(hypes["optimizer"]["lr"]), closed_form_epoch(epoch, first_epoch)) for epoch in epochs]


class TrainingRun:
    """The first steps of a training whose batches come in a fixed order, and what was seen on the way."""

    def __init__(self, content: Mapping[str, Any], fill: Callable[[torch.nn.Module], Any]) -> None:
        self.hypes = configure(content, validate_dir=content["root_dir"])
        train_set = build_dataset(self.hypes, train=False)
        self.train_batches = list(self._batches(train_set))
        self.validation_batches = list(self._batches(build_dataset(configure(content), train=False)))
        self.model = build_model(self.hypes)
        fill(self.model)
        self.initial = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimizer = build_optimizer(self.model, self.hypes["optimizer"])
        single_weight = float(self.hypes["train_params"].get("single_weight", 1))
        self.criterion = Criterion(build_loss(self.hypes), bool(train_set.supervise_single), single_weight)
        self.stepper = Stepper(self.model, self.optimizer, self.criterion, World())
        self.seen: dict[str, Any] = {}

    def run(self, steps: int) -> dict[str, Any]:
        """Take ``steps`` optimiser steps; returns the outputs named as in the golden ``out/train``."""
        done = 0
        rates: list[float] = []
        for epoch in count():
            rates += learning_rates(self.hypes, [epoch])
            set_rates(self.optimizer, [rates[-1]] * len(self.optimizer.param_groups))
            self.model.train()
            for batch in self.train_batches[: steps - done]:
                done += 1
                self._step({**batch["ego"], "epoch": epoch}, done, last=done == steps)
            if done == steps:
                break
            if epoch % self.hypes["train_params"]["eval_freq"] == 0:
                self.seen[f"val_loss_after_epoch/{epoch}"] = self._validate()
        return self.seen | {"lr_per_epoch_of_run": rates}

    def _batches(self, dataset: Any) -> Iterator[Batch]:
        """Batches in index order, the incomplete last one dropped."""
        late = dataset_family(self.hypes["fusion"]["core_method"]) == "late"
        items = ((_one_agent(dataset[i], i) if late else dataset[i]) for i in range(len(dataset)))
        size = self.hypes["train_params"]["batch_size"]
        while len(group := list(islice(items, size))) == size:
            yield dataset.collate_batch_train(group)

    def _step(self, entry: dict[str, Any], number: int, last: bool) -> None:
        report = self.stepper(entry)
        for suffix, (loss, terms) in report.items():
            self._append("loss_main" if not suffix else f"loss{suffix}", loss)
            for term, value in terms.items():
                self._append(f"part{suffix}/{term}", value)
        weights = {"_single": self.criterion.single_weight}
        self._append("loss", sum(loss * weights.get(suffix, 1.0) for suffix, (loss, _) in report.items()))
        if number == 1:
            gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
            self.seen |= norms("grad_norm_step1", gradients)
        if number == 1 or last:
            self._note_weights(number)

    def _note_weights(self, number: int) -> None:
        parameters = {name: p.detach() for name, p in self.model.named_parameters()}
        changes = {name: p - self.initial[name] for name, p in parameters.items()}
        self.seen |= norms(f"param_norm_step{number}", parameters)
        self.seen |= norms(f"param_change_step{number}", changes)
        for statistic in ("running_mean", "running_var"):
            buffers = {name: b for name, b in self.model.named_buffers() if name.endswith(f".{statistic}")}
            named = norms(f"bn_norm_step{number}", buffers)
            self.seen |= {f"{name}/{statistic}": value for name, value in named.items()}

    @torch.no_grad()
    def _validate(self) -> float:
        self.model.eval()
        losses = [
            float(self.criterion.loss(self.model(batch["ego"]), batch["ego"]["label_dict"])[0])
            for batch in self.validation_batches
        ]
        return sum(losses) / len(losses)

    def _append(self, name: str, value: float) -> None:
        self.seen.setdefault(name, []).append(value)


def _one_agent(item: dict[str, Any], number: int) -> dict[str, Any]:
    """A late test item reduced to agent ``number`` modulo their count, in the ego's place."""
    agents = list(item)
    return {"ego": item[agents[number % len(agents)]]}


def norms(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """L2 norm over all entries of each top-level module: ``{name}/{module}``."""
    squares: dict[str, float] = {}
    for key, tensor in tensors.items():
        module = f"{name}/{key.partition('.')[0]}"
        squares[module] = squares.get(module, 0.0) + float(tensor.double().square().sum())
    return {module: math.sqrt(square) for module, square in squares.items()}


def overwrite(model: torch.nn.Module, weights: Path) -> None:
    """Load the stored entries (any float type) over what the model holds."""
    entries = model.state_dict()
    with np.load(weights) as stored, torch.no_grad():
        for name in stored.files:
            entries[name].copy_(torch.from_numpy(stored[name].astype(np.float32)))


class InferenceRun:
    """Detections of a model on the evaluation split, frame by frame, and their AP."""

    def __init__(self, hypes: Hypes, model: torch.nn.Module, draws: LegacyRandom | None = None) -> None:
        self.dataset = build_dataset(
            hypes, train=False, visualize=True, draws=Draws(draws.numpy, draws.python) if draws else None
        )
        self.model = model.eval()
        self.batches: list[Batch] = []
        self.frames: list[FrameDetections] = []

    @torch.no_grad()
    def run(self) -> dict[str, Any]:
        """Outputs named as in a golden ``out/infer_*``: boxes, scores, flags and AP."""
        for index in range(len(self.dataset)):
            batch = self.dataset.collate_batch_test([self.dataset[index]])
            outputs = {agent: self.model(entry) for agent, entry in batch.items()}
            self.batches.append(batch)
            self.frames.append(FrameDetections.of(*self.dataset.post_process(batch, outputs)))
        return self._frame_results() | self._scores()

    def _frame_results(self) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for index, (frame, batch) in enumerate(zip(self.frames, self.batches, strict=True)):
            place = f"frame{index}"
            results[f"{place}/box"] = frame.boxes
            results[f"{place}/score"] = frame.scores
            results[f"{place}/gt"] = frame.ground_truth
            results[f"{place}/gt_count"] = len(frame.ground_truth)
            results[f"{place}/lidar_pose"] = batch["ego"].get("lidar_pose")
        return results

    def _scores(self) -> dict[str, Any]:
        detections = DetectionSet(tuple(self.frames))
        matches = match_all(detections, THRESHOLDS)
        results: dict[str, Any] = {"gt_total": detections.ground_truth_count}
        for threshold in THRESHOLDS:
            flags = [np.asarray(match.true_positive[threshold]) for match in matches]
            results[f"tp/{threshold:g}"] = np.concatenate(flags)
            results[f"ap_global/{threshold:g}"] = average_precision(matches, threshold, global_sort=True).ap
            results[f"ap_frame/{threshold:g}"] = average_precision(matches, threshold, global_sort=False).ap
        return results
