"""Learn a few frames by heart (``train.py --overfit N``): a detector that cannot has a bug, not too little data."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from opencood.batch import to_device
from opencood.config.loader import Hypes
from opencood.config.pretrain import refuse_pretraining
from opencood.data.build import seed_of
from opencood.data.frame import EGO
from opencood.errors import ConfigError, DataError
from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.evaluation.report import evaluate
from opencood.experiments.build import build_dataset, build_loss, build_model
from opencood.experiments.devices import choose_device
from opencood.experiments.training import TrainingOptions, open_hypes, precision_of
from opencood.experiments.unreached import Unreached, explain
from opencood.models.diagnostics import first_nonfinite_module
from opencood.training.distributed import World
from opencood.training.optimizers import build_optimizer
from opencood.training.order import seed_draws
from opencood.training.settings import settings_from
from opencood.training.step import Criterion, Stepper, has_objects

log = logging.getLogger(__name__)

IOU = 0.5
GOAL = 0.99
LOOK_EVERY = 25


@dataclass(frozen=True)
class OverfitReport:
    """How well the frames were learned: AP@0.5, after how many steps, which boxes are not reached and why."""

    ap: float
    steps: int
    frames: int
    boxes: int
    unreached: tuple[Unreached, ...]

    @property
    def reached(self) -> bool:
        """Whether the goal was reached."""
        return self.ap >= GOAL

    def lines(self) -> list[str]:
        """The report as text."""
        verdict = "reached" if self.reached else f"goal {GOAL} not reached"
        learned = f"{self.frames} frames with {self.boxes} boxes after {self.steps} steps"
        head = f"AP@{IOU:g} {self.ap:.4f} on {learned}: {verdict}"
        if not self.unreached:
            return [head, "every box is reached"]
        return [head, f"{len(self.unreached)} boxes are not reached:", *(f"  {one}" for one in self.unreached)]


class FewFrames:
    """The first test-mode samples of the training split that have objects, read once and kept.

    Test mode makes them the same in every epoch: sorted agents, no augmentation. Where every agent is its own sample
    (late fusion) the ego's is learned.
    """

    def __init__(self, hypes: Hypes, count: int):
        content = {**hypes, "validate_dir": hypes["root_dir"]}
        self.dataset = build_dataset(hypes.replaced(content), train=False, visualize=True)
        self.samples = list(self._usable(count))
        if len(self.samples) < count:
            raise ConfigError(
                f"--overfit {count}: the training split has only {len(self.samples)} frames with objects."
            )

    def _usable(self, count: int) -> Iterator[Any]:
        for index in range(len(self.dataset)):
            sample = self._sample(index)
            if sample is not None and sample[EGO]["object_bbx_mask"].any():
                yield sample
                count -= 1
            if count == 0:
                return

    def _sample(self, index: int) -> Any | None:
        try:
            return self.dataset[index]
        except DataError as error:
            log.warning("left out: %s", error)
            return None

    def batch(self, indices: Sequence[int]) -> Mapping[str, Any]:
        """The ``ego`` entry of a training batch of some of the frames."""
        return self.dataset.collate_batch_train([self.samples[index] for index in indices])[EGO]

    def tests(self) -> list[dict[str, Any]]:
        """One test batch per frame, the ego alone where agents detect by themselves."""
        return [{EGO: self.dataset.collate_batch_test([sample])[EGO]} for sample in self.samples]


def run_overfit(
    hypes_path: str | Path | None, model_dir: str | Path | None, frames: int, steps: int, options: TrainingOptions
) -> OverfitReport:
    """Train on ``frames`` frames until AP@0.5 is 0.99 on them, or for ``steps`` steps; nothing is written.

    Raises:
        ConfigError: there are not so many frames with objects, or the configuration is wrong.
    """
    if frames < 1 or steps < 1:
        raise ConfigError(f"--overfit {frames}, --overfit_steps {steps}: both must be at least 1.")
    hypes = open_hypes(hypes_path, model_dir, options.seed, options.perturb)
    refuse_pretraining(hypes, "there are no boxes to learn by heart")
    device = choose_device(options.device)
    few = FewFrames(hypes, frames)
    settings = settings_from(hypes, seed=seed_of(hypes))
    seed_draws(settings.seed)
    model = build_model(hypes).to(device)
    criterion = Criterion(build_loss(hypes), few.dataset.supervise_single, settings.single_weight)
    optimizer = build_optimizer(model, hypes.get("optimizer") or {})
    precision = precision_of(options.half, device)
    stepper = Stepper(
        model, optimizer, criterion, World(device=device), precision, settings.grad_clip, first_nonfinite_module
    )
    tests = to_device(few.tests(), device)
    done, found = _learn(few, stepper, tests, settings.batch_size, steps)
    return OverfitReport(
        ap=_ap(found),
        steps=done,
        frames=frames,
        boxes=found.ground_truth_count,
        unreached=tuple(explain(hypes, few.dataset, model, tests, IOU)),
    )


def _learn(
    few: FewFrames, stepper: Stepper, tests: list[dict[str, Any]], batch_size: int, steps: int
) -> tuple[int, DetectionSet]:
    device, count = stepper.world.device, len(few.samples)
    size = min(batch_size, count)
    batches = [to_device(few.batch(range(at, min(at + size, count))), device) for at in range(0, count, size)]
    bar = tqdm(range(1, steps + 1), desc=f"overfit {count} frames", unit=" steps")
    for step in bar:
        ego = batches[step % len(batches)]
        stepper.model.train()
        report = stepper({**ego, "epoch": step // len(batches)} if has_objects(ego) else None)
        if step % LOOK_EVERY == 0 or step == steps:
            settle_statistics(stepper.model, batches)
            found = _detect(few.dataset, stepper.model, tests)
            loss = f"{report[''][0]:.3f}" if report else "-"
            bar.set_postfix({"loss": loss, f"AP@{IOU:g}": f"{_ap(found):.3f}"})
            if _ap(found) >= GOAL:
                break
    bar.close()
    return step, found


@torch.no_grad()
def settle_statistics(model: nn.Module, batches: list[dict[str, Any]]) -> None:
    """Make the running statistics of all batch norms that train the mean over the batches.

    A running average lags behind weights that change fast; of a few frames it can be had exactly.
    """
    model.train()
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    for ego in batches:
        model(ego)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def _detect(dataset: Any, model: nn.Module, tests: list[dict[str, Any]]) -> DetectionSet:
    model.eval()
    found = (dataset.post_process(batch, {EGO: model(batch[EGO])}) for batch in tests)
    names = getattr(dataset.post_processor, "class_names", None)
    return DetectionSet(tuple(FrameDetections.of(*one) for one in found), {"classes": names})


def _ap(found: DetectionSet) -> float:
    """Average precision; of several classes the mean over those that occur."""
    return evaluate(found, (IOU,)).ap(IOU)
