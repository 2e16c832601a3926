"""The demonstration: simulate, train four ways to collaborate, evaluate, compare, draw (``tools/demo.py``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import digest
from opencood.errors import ConfigError, nearest
from opencood.evaluation.bootstrap import Interval, difference_interval
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_text, write_yaml
from opencood.evaluation.report import GLOBAL_SORT, THRESHOLDS, Report, evaluate, match_all
from opencood.evaluation.tables import markdown_table, text_table
from opencood.experiments.continued import prepare_continued_run
from opencood.experiments.demo_pictures import draw_demo_pictures
from opencood.experiments.inference import InferenceOptions, run_inference
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.steps import Facts, Journal
from opencood.experiments.training import TrainingOptions, run_training

log = logging.getLogger(__name__)

HYPES = SHIPPED / "sim"
HEADER = ("method", *(f"AP@{threshold:g}" for threshold in THRESHOLDS), "megabits/frame", "frames/s")
SEED = 0


@dataclass(frozen=True)
class Row:
    """One line of the table: how it is called, which detector it uses, and how that detector is run."""

    label: str
    detector: str
    fusion_method: str

    @property
    def slug(self) -> str:
        """Name of its files."""
        return self.label.replace(" ", "_")


ROWS = (
    Row("no fusion", "late", "no"),
    Row("late", "late", "late"),
    Row("early", "early", "early"),
    Row("intermediate", "intermediate", "intermediate"),
)
ALONE, TOGETHER = ROWS[0].label, ROWS[-1].label
# What the parts of the single-agent detector are called in the detector with modalities.
RENAMES = {
    "intermediate": {
        "pillar_vfe.*": "encoder_m1.pillar_vfe.*",
        "backbone.*": "backbone_m1.*",
        "shrink_conv.*": "shrinker_m1.*",
    }
}
DETECTORS = tuple(dict.fromkeys(row.detector for row in ROWS))


@dataclass(frozen=True)
class DemoPreset:
    """How much is simulated and trained.

    Attributes:
        simulation: options of ``simulate`` besides folder and seed.
        training: detector -> keys that replace those of ``hypes_yaml/sim/<detector>.yaml``.
        workers: loader processes at evaluation.
        vis_interval: a picture every so many test frames, for every row.
        resamples: bootstrap resamples.
    """

    simulation: Mapping[str, Any]
    training: Mapping[str, Mapping[str, Any]]
    workers: int = 0
    vis_interval: int = 20
    resamples: int = 2000


def _schedule(epochs: int, batches: int, size: int, rate: float) -> dict[str, Any]:
    """Epochs of so many batches, with a tenth of the rate from 60 % on and a hundredth from 80 %."""
    return {
        "train_params": {"epoches": epochs, "max_train_batches": batches, "batch_size": size, "eval_freq": epochs},
        "optimizer": {"lr": rate},
        "lr_scheduler": {"step_size": [round(0.6 * epochs) - 1, round(0.8 * epochs) - 1]},
    }


PRESETS = {
    "demo": DemoPreset(
        simulation={"preset": "small", "scenarios": (120, 4, 34), "jobs": 2},
        training={
            "late": _schedule(10, 40, 4, 0.002),
            "early": _schedule(5, 40, 4, 0.001),
            "intermediate": _schedule(8, 50, 2, 0.001),
        },
    ),
    "smallest": DemoPreset(
        simulation={"preset": "mini"},
        training={detector: {"train_params": {"epoches": 1, "num_workers": 0}} for detector in DETECTORS},
        vis_interval=4,
        resamples=200,
    ),
}


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found."""

    reports: Mapping[str, Report]
    gain: Interval
    pictures: tuple[Path, ...]
    seconds: Mapping[str, float]

    def lines(self) -> list[str]:
        """The table, the gain with its interval, the pictures and the times."""
        any_report = next(iter(self.reports.values()))
        return [
            "",
            text_table(HEADER, table_rows(self.reports)),
            "",
            f"intermediate minus no fusion, AP@0.5: {self.gain} (95 % bootstrap over {any_report.frames} frames, "
            f"{any_report.ground_truths} objects)",
            "",
            "All methods are compared with the same objects: those any agent lists within the ego's range.",
            "The early and the intermediate detector started from the weights of the late one, as in staged training.",
            "",
            "pictures:",
            *(f"  {path}" for path in self.pictures),
            "",
            "seconds: " + ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
            + f", together {sum(self.seconds.values()):.0f}",
        ]  # fmt: skip


def run_demo(out: Path, preset: str = "demo", fresh: bool = False, device: str = "auto") -> DemoResult:
    """Run all steps that are not done yet, in ``out``; see ``ROWS`` for what is compared.

    Raises:
        ConfigError: unknown preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset: unknown '{preset}'.{nearest(preset, PRESETS)} Valid: {', '.join(PRESETS)}.")
    chosen = PRESETS[preset]
    journal = Journal(out, total=2 + len(DETECTORS) + len(ROWS), fresh=fresh)
    data = out / "data"
    journal.run("simulate", dict(chosen.simulation) | {"seed": SEED}, lambda: _simulate(data, chosen))
    for detector in DETECTORS:
        hypes_file = write_yaml(out / "hypes" / f"{detector}.yaml", demo_hypes(detector, data, chosen))
        inputs = [digest(load_yaml(hypes_file)), device]
        journal.run(f"train {detector}", inputs, partial(_train, out, detector, hypes_file, device))
    for row in ROWS:
        journal.run(f"evaluate {row.label}", [chosen.vis_interval], partial(_evaluate, out, row, chosen, device))
    found = load_rows(out)
    reports = {row.label: _report(row, found[row.label], journal) for row in ROWS}
    run_dir = out / "runs" / ROWS[-1].detector
    drawn = journal.run("pictures", None, lambda: {"files": draw_demo_pictures(out, reports, found, run_dir)})
    result = DemoResult(
        reports=reports,
        gain=_gain(found, chosen.resamples),
        pictures=tuple(map(Path, drawn["files"])),
        seconds={name: record.seconds for name, record in journal.records.items()},
    )
    _save_summary(out, result)
    return result


def table_rows(reports: Mapping[str, Report]) -> list[list[str]]:
    """The cells of the table, one list per method."""
    rows = []
    for label, report in reports.items():
        marks = [f"{report.ap(threshold, GLOBAL_SORT):.3f}" for threshold in THRESHOLDS]
        size, speed = report.megabits_per_frame, report.frames_per_second
        rows.append([label, *marks, "0" if not size else f"{size:.3g}", "" if speed is None else f"{speed:.1f}"])
    return rows


def demo_hypes(detector: str, data: Path, preset: DemoPreset) -> dict[str, Any]:
    """The hypes file of one detector: the shipped one with the demo's data folders and sizes."""
    folders = {"root_dir": "train", "validate_dir": "validate", "test_dir": "test"}
    paths = {key: str((data / split).resolve()) for key, split in folders.items()}
    return {"_base_": str(HYPES / f"{detector}.yaml"), "name": f"demo_{detector}", **paths, **preset.training[detector]}


def detections_file(out: Path, row: Row) -> Path:
    """Where the detections of a row are kept."""
    return out / "detections" / f"{row.slug}.npz"


def _simulate(data: Path, preset: DemoPreset) -> Facts:
    report = simulate(SimulationOptions(out=data, seed=SEED, overwrite=True, **preset.simulation))
    return {"frames": report.frames, "digest": report.digest}


def _train(out: Path, detector: str, hypes_file: Path, device: str) -> Facts:
    """Train a detector in ``runs/<detector>``; all but the first continue from its weights, as staged training does."""
    folder = out / "runs" / detector
    if detector == DETECTORS[0]:
        run_training(hypes_file, None, TrainingOptions(run_dir=folder, device=device))
    else:
        prepare_continued_run(folder, load_yaml(hypes_file), out / "runs" / DETECTORS[0], RENAMES.get(detector, {}))
        run_training(None, folder, TrainingOptions(device=device))
    return {"run_dir": str(folder)}


def _evaluate(out: Path, row: Row, preset: DemoPreset, device: str) -> Facts:
    options = InferenceOptions(
        model_dir=out / "runs" / row.detector,
        fusion_method=row.fusion_method,
        save_vis_interval=preset.vis_interval,
        save_detections=detections_file(out, row),
        workers=preset.workers,
        device=device,
    )
    return {"frames_per_second": run_inference(options).frames_per_second}


def load_rows(out: Path) -> dict[str, DetectionSet]:
    """The detections of all rows by label, compared with the same objects: those any agent lists in the ego's range."""
    found = {row.label: DetectionSet.load(detections_file(out, row)) for row in ROWS}
    return {label: detections.against(found[TOGETHER]) for label, detections in found.items()}


def _report(row: Row, detections: DetectionSet, journal: Journal) -> Report:
    speed = journal.records[f"evaluate {row.label}"].facts["frames_per_second"]
    return evaluate(detections, variant=GLOBAL_SORT, frames_per_second=speed)


def _gain(found: Mapping[str, DetectionSet], resamples: int) -> Interval:
    alone, together = (match_all(found[label]) for label in (ALONE, TOGETHER))
    return difference_interval(together, alone, 0.5, np.random.default_rng(SEED), resamples)


def _save_summary(out: Path, result: DemoResult) -> None:
    write_text(out / "table.md", markdown_table(HEADER, table_rows(result.reports)) + "\n")
    content = {
        "gain_ap50": {"value": result.gain.value, "lower": result.gain.lower, "upper": result.gain.upper},
        "rows": {label: report.content() for label, report in result.reports.items()},
        "seconds": dict(result.seconds),
    }
    write_yaml(out / "summary.yaml", content)
