"""How long what is to do will take: what was measured before, else one timed step where the data are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from opencood.batch import to_device
from opencood.config.loader import Hypes, load_yaml, reparse
from opencood.config.splits import split_paths
from opencood.errors import OpencoodError
from opencood.experiments.build import build_dataset, build_from_scratch, build_loss, build_training_set
from opencood.experiments.devices import choose_device
from opencood.experiments.recipe_stages import Task
from opencood.experiments.recipe_tests import edit_of_pair, tests_of
from opencood.training.settings import settings_from
from opencood.training.step import Criterion


@dataclass(frozen=True)
class Workload:
    """What a task has to do, in words, and its seconds, None where they cannot be told yet."""

    words: str
    seconds: float | None

    def __str__(self) -> str:
        return f"{self.words}, {'time unknown yet' if self.seconds is None else duration(self.seconds)}"


def estimate_lines(tasks: Sequence[Task], measured: Mapping[str, float]) -> list[str]:
    """One line for every task, and the sum; ``measured`` are seconds of finished tasks by name."""
    if not tasks:
        return ["nothing to do"]
    probed: dict[str, Workload] = {}
    loads = []
    for task in tasks:
        known = _known_seconds(task, measured)
        if known is not None:
            loads.append(Workload("as before", known))
            continue
        if task.stage.name not in probed:  # seeds differ in nothing that takes time
            probed[task.stage.name] = _workload(task)
        loads.append(_or_elsewhere(probed[task.stage.name], task))
    lines = [f"estimate: {task.name}: {load}" for task, load in zip(tasks, loads, strict=True)]
    known_seconds = [load.seconds for load in loads if load.seconds is not None]
    unknown = len(loads) - len(known_seconds)
    rest = f", and {unknown} task(s) that cannot be told yet" if unknown else ""
    return [*lines, f"estimate: together {duration(sum(known_seconds))}{rest}"]


def _or_elsewhere(load: Workload, task: Task) -> Workload:
    """The load, with what the recipe says it took elsewhere where nothing is known here."""
    elsewhere = task.recipe.measured.get(task.stage.name)
    if load.seconds is not None or elsewhere is None:
        return load
    return Workload(f"{load.words}, as measured elsewhere", elsewhere)


def duration(seconds: float) -> str:
    """``about 45 s``, ``about 12 min``, ``about 3.4 h``."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def _known_seconds(task: Task, measured: Mapping[str, float]) -> float | None:
    """How long the same stage took, with this seed or another."""
    of_stage = [seconds for name, seconds in measured.items() if name.partition(", seed ")[0] == task.stage.name]
    return measured.get(task.name, max(of_stage, default=None))


def _workload(task: Task) -> Workload:
    kind = task.stage.kind
    if kind == "simulate":
        return Workload(f"simulation {dict(task.stage.subject or {})}", None)
    if kind in ("merge", "assemble"):
        return Workload("merging", 5.0)
    try:
        return _training(task) if kind == "train" else _testing(task)
    except (OpencoodError, OSError) as error:
        return Workload(f"cannot be measured: {error}", None)


def _training(task: Task) -> Workload:
    hypes = task.hypes()
    settings = settings_from(hypes)
    epochs = f"{settings.epochs} epochs of batches of {settings.batch_size}"
    if not _is_there(hypes, "root_dir"):
        return Workload(epochs, None)
    dataset = build_training_set(hypes)
    batches = min(len(dataset) // settings.batch_size, settings.max_train_batches or len(dataset))
    device = choose_device(task.stage.spec.get("device", "auto"))
    seconds = _seconds_of_step(hypes, dataset, device, training=True) * settings.batch_size
    return Workload(f"{settings.epochs} epochs of {batches} batches of {settings.batch_size}",
                    settings.epochs * batches * seconds)  # fmt: skip


def _testing(task: Task) -> Workload:
    [run] = task.starts()
    if not run.is_dir():
        return Workload("testing", None)
    hypes = load_yaml(None, model_dir=run)
    if not _is_there(hypes, "test_dir"):
        return Workload("testing", None)
    options = task.stage.spec.get("options", {})
    for pair in task.stage.pairs[:1]:  # all take about the same time
        hypes = reparse(hypes.replaced({**hypes, **edit_of_pair(hypes, pair)}))
    dataset = build_dataset(hypes.replaced({**hypes, "validate_dir": hypes["test_dir"]}), train=False)
    frames = min(len(dataset), options.get("limit") or len(dataset)) * tests_of(task.stage)
    seconds = _seconds_of_step(hypes, dataset, choose_device(options.get("device", "auto")), training=False)
    return Workload(f"{frames} frames", frames * seconds)


def _is_there(hypes: Hypes, key: str) -> bool:
    return bool(hypes.get(key)) and all(Path(path).exists() for path in split_paths(hypes[key]))


def _seconds_of_step(hypes: Hypes, dataset: Any, device: torch.device, training: bool) -> float:
    """Seconds for one sample: the second of two times that it is read and goes through the detector."""
    for _ in range(2):
        started = perf_counter()
        batch = dataset.collate_batch_train([dataset[0]])
        reading = perf_counter() - started
    if batch is None:
        return reading
    ego, model = to_device(batch["ego"], device), build_from_scratch(hypes).to(device).train(training)
    criterion = Criterion(build_loss(hypes), dataset.supervise_single)
    for _ in range(2):
        started = perf_counter()
        with torch.set_grad_enabled(training):
            outputs = model(ego)
        if training:
            total = criterion.total(criterion(outputs, ego))
            if total.requires_grad:
                total.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return reading + perf_counter() - started
