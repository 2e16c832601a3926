"""Several detectors under growing disturbance: one evaluation each, kept, and never made twice."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from opencood.config.loader import config_of_run
from opencood.errors import ConfigError, OpencoodError
from opencood.evaluation.bootstrap import Interval, frame_weights, interval_of, resampled_ap
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_text
from opencood.evaluation.report import THRESHOLDS, VARIANTS, Report, evaluate
from opencood.experiments.evaluate import reported
from opencood.experiments.folders import checkpoints_of
from opencood.experiments.in_order import MODALITIES, Entrance, entering
from opencood.experiments.inference import run_inference
from opencood.experiments.protocol import file_digest
from opencood.experiments.session import InferenceOptions
from opencood.experiments.sweep_factors import FACTORS, Condition, apply, conditions, name_of, shown

log = logging.getLogger(__name__)

STATE = "sweep_state.json"
RESAMPLES = 1000
# Choices that do not decide what is detected.
UNIMPORTANT = ("model_dir", "save_detections", "workers", "progress", "device", "save_vis_interval", "results", "note")


@dataclass(frozen=True)
class Row:
    """One detector under one condition."""

    method: str
    condition: Condition
    report: Report
    intervals: Mapping[float, Interval]

    def ap(self, threshold: float) -> Interval:
        """Average precision, all detections sorted together, with its 95 % bootstrap interval over frames."""
        return self.intervals[threshold]


@dataclass
class Sweep:
    """Which detectors, under what, and where the results go.

    Attributes:
        runs: name -> run folder.
        values: factor -> its values (see ``sweep_factors``).
        out: folder of detections, state, tables and pictures.
        options: of every evaluation; ``model_dir`` is replaced.
        grid: every combination of values instead of one factor at a time.
        in_order: agents enter in the order of their modalities, as in ``inference_heter_in_order.py``: so many as the
            condition says, else one of each modality.
        failed: what could not be evaluated, and why.
        seconds: what the evaluations took, those of earlier calls included.
    """

    runs: Mapping[str, Path]
    values: Mapping[str, Sequence[Any]]
    out: Path
    options: InferenceOptions
    grid: bool = False
    in_order: bool = False
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def plan(self) -> list[tuple[str, Path, Condition]]:
        """Everything that is evaluated, in order."""
        return [(n, run, c) for n, run in self.runs.items() for c in conditions(self.values, self.grid)]

    def run(self) -> list[Row]:
        """Evaluate what is missing; returns all rows.

        A condition that a data set or detector cannot do is named in ``failed``, and the sweep goes on.

        Raises:
            CheckpointError: run folders are missing or hold no checkpoint.
            OpencoodError: a detector cannot even be evaluated undisturbed.
        """
        weights = dict(zip(self.runs, (file for file, _ in checkpoints_of(self.runs.values())), strict=True))
        state = _read_state(self.out / STATE)
        rows, plan = [], self.plan()
        for number, (name, run, condition) in enumerate(plan, start=1):
            file = self.out / name / f"{name_of(condition)}.npz"
            options = apply(replace(self.options, model_dir=run), condition)
            key, place = self._key(options, weights[name]), f"{name}/{file.stem}"
            if state.get(place, {}).get("inputs") == key and file.is_file():
                log.info("[%d/%d] %s: done", number, len(plan), place)
            else:
                log.info("[%d/%d] %s", number, len(plan), place)
                started = perf_counter()
                if not self._evaluate(replace(options, save_detections=file, results=False), condition, place):
                    continue
                state[place] = {"inputs": key, "seconds": round(perf_counter() - started, 1)}
                write_text(self.out / STATE, json.dumps(state, indent=1, sort_keys=True) + "\n")
            self.seconds += state[place]["seconds"]
            rows.append(read_row(name, condition, file))
        return rows

    def _key(self, options: InferenceOptions, weights: Path) -> str:
        """Digest of everything that decides the detections."""
        chosen = {key: value for key, value in vars(options).items() if key not in UNIMPORTANT}
        run = {"config": file_digest(config_of_run(options.model_dir)), "weights": file_digest(weights)}
        content = {**chosen, **run, "in_order": self.in_order}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def _evaluate(self, options: InferenceOptions, condition: Condition, place: str) -> bool:
        try:
            if self.in_order:
                entrance = Entrance(int(condition.get("agents", len(MODALITIES))))
                options = entering(replace(options, agents=None), entrance)
            run_inference(options)
        except OpencoodError as error:
            if not condition:
                raise
            log.warning("%s: %s", place, error)
            self.failed.append(f"{place}: {error}")
            return False
        return True


def names_of(folders: Sequence[Path], given: Sequence[str] | None = None) -> dict[str, Path]:
    """A name for every run folder: the given ones, or as many last parts of their paths as tell them apart.

    Raises:
        ConfigError: not as many names as folders, or a name twice.
    """
    if given is None:
        resolved = [folder.resolve() for folder in folders]
        depth = next((d for d in (1, 2, 3) if len({f.parts[-d:] for f in resolved}) == len(resolved)), 4)
        given = ["_".join(folder.parts[-depth:]) for folder in resolved]
    if len(given) != len(folders) or len(set(given)) != len(given):
        raise ConfigError(
            f"--model_dir, --names: {len(folders)} folders need as many different names, not {', '.join(given)}."
        )
    for name in given:
        if not name or Path(name).name != name:
            raise ConfigError(f"--names: '{name}' becomes the name of a folder and cannot hold a '/'.")
    return dict(zip(given, folders, strict=True))


def read_row(name: str, condition: Condition, file: Path) -> Row:
    """The row of stored detections."""
    detections = DetectionSet.load(file)
    weights = frame_weights(len(detections), RESAMPLES, np.random.default_rng(0))
    resampled = resampled_ap(detections, THRESHOLDS, weights)
    report = evaluate(detections, variant=reported(detections.protocol))
    return Row(name, condition, report, {t: interval_of(values) for t, values in resampled.items()})


def table(rows: Sequence[Row], factors: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and lines with every figure: both AP variants, intervals, size of messages."""
    aps = [f"AP@{t:g} {variant}" for variant in VARIANTS for t in THRESHOLDS]
    header = ["method", *factors, *aps, "AP@0.5 lower", "AP@0.5 upper", "megabits/frame", "frames", "ground truths"]
    lines = []
    for row in rows:
        neutral = {name: "all" if name == "agents" else "-" for name in factors}
        chosen = [row.condition.get(name, FACTORS[name].neutral) for name in factors]
        cells = [neutral[name] if value is None else shown(value) for name, value in zip(factors, chosen, strict=True)]
        figures = [f"{row.report.ap(t, variant):.4f}" for variant in VARIANTS for t in THRESHOLDS]
        interval, size = row.ap(0.5), row.report.megabits_per_frame
        counts = [str(row.report.frames), str(row.report.ground_truths)]
        bounds = [f"{interval.lower:.4f}", f"{interval.upper:.4f}"]
        lines.append([row.method, *cells, *figures, *bounds, "" if size is None else f"{size:.5g}", *counts])
    return header, lines


def _read_state(file: Path) -> dict[str, dict[str, Any]]:
    """What is done, by place; without what is missing or damaged there, so that it is done again."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    done = content.items() if isinstance(content, dict) else ()
    return {place: entry for place, entry in done if isinstance(entry, dict) and set(entry) == {"inputs", "seconds"}}
