"""Average precision against pose noise, with and without correction by boxes, on simulated data.

A detector that tells how sure it is of its boxes is trained on single agents. Its boxes are stored for the test split
(``box_storage``), and correct the poses of two ways to collaborate: late fusion of its own boxes, and intermediate
fusion by a detector that starts from its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_yaml
from opencood.config.save import digest
from opencood.errors import ConfigError, nearest
from opencood.evaluation.files import write_text, write_yaml
from opencood.evaluation.report import GLOBAL_SORT
from opencood.evaluation.tables import markdown_table, text_table
from opencood.experiments.box_storage import FILE, StorageOptions, store_boxes
from opencood.experiments.continued import prepare_continued_run
from opencood.experiments.demo import PRESETS as DEMO
from opencood.experiments.demo import SEED, DemoPreset
from opencood.experiments.inference import InferenceOptions
from opencood.experiments.noise import LEVELS, run_noise_sweep
from opencood.experiments.pose_errors import PUBLISHED, PoseErrorOptions, evaluate_poses
from opencood.experiments.recipe_stages import SPLITS
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.experiments.steps import Facts, Journal
from opencood.experiments.training import TrainingOptions, run_training
from opencood.visualization.charts import draw_curves

METHODS = {"late": "uncertainty", "intermediate": "attention"}  # fusion method -> hypes file and run folder
FINDER = METHODS["late"]  # whose boxes correct poses
# Nothing, what CoAlign published, and the same with our options: poses are held where boxes tell little.
HELD = {"matching": "mutual", "circular_yaw": True, "huber": 1.0, "believed_std": [0.4, 0.4]}
CORRECTIONS: Mapping[str, Mapping[str, Any] | None] = {"noisy": None, "corrected": PUBLISHED, "corrected, held": HELD}
THRESHOLDS = (0.5, 0.7)
STORING = "boxes"
# What is hardly trained is sure of nothing, and without boxes there is nothing to correct by.
_SURE_OF_NOTHING = {"postprocess": {"target_args": {"score_threshold": 0.01}}}
PRESETS: Mapping[str, DemoPreset] = {
    "table": DEMO["demo"],
    "smallest": replace(
        DEMO["smallest"],
        training={name: {**keys, **_SURE_OF_NOTHING} for name, keys in DEMO["smallest"].training.items()},
    ),
}


@dataclass(frozen=True)
class CorrectionTable:
    """What was found.

    Attributes:
        marks: (method, correction) -> IoU threshold -> AP by level of noise.
        pose_errors: by level above 0, the table of ``pose_graph_evaluate``.
        files: what was written.
    """

    marks: Mapping[tuple[str, str], Mapping[float, list[float]]]
    pose_errors: Mapping[float, Mapping[str, Any]]
    files: tuple[Path, ...]

    @property
    def rows(self) -> list[list[str]]:
        """The cells, one list per method and correction."""
        return [
            [f"{method}, {correction}", *(f"{value:.3f}" for t in THRESHOLDS for value in marks[t])]
            for (method, correction), marks in self.marks.items()
        ]

    @property
    def header(self) -> list[str]:
        """Names of the columns: IoU threshold and noise."""
        return ["poses", *(f"AP@{t:g} {level:g}" for t in THRESHOLDS for level in LEVELS)]

    def lines(self) -> list[str]:
        """The table for a terminal."""
        return [
            "AP against pose noise (standard deviation in metres and degrees alike)",
            text_table(self.header, self.rows),
            *(f"wrote {file}" for file in self.files),
        ]


def run_pose_correction(out: Path, preset: str = "table", fresh: bool = False, device: str = "auto") -> CorrectionTable:
    """Do all steps that are not done yet, in ``out``.

    Raises:
        ConfigError: unknown preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"--preset: unknown '{preset}'.{nearest(preset, PRESETS)} Valid: {', '.join(PRESETS)}.")
    chosen = PRESETS[preset]
    journal = Journal(out, total=3 + len(METHODS) * (1 + len(CORRECTIONS)), fresh=fresh)
    journal.run("simulate", dict(chosen.simulation) | {"seed": SEED}, partial(_simulate, out, chosen))
    for method, detector in METHODS.items():
        hypes_file = write_yaml(out / "hypes" / f"{detector}.yaml", _hypes(method, out, chosen))
        inputs = [digest(load_yaml(hypes_file)), device]
        journal.run(f"train {detector}", inputs, partial(_train, out, detector, hypes_file, device))
    storing = write_yaml(out / "hypes" / f"{STORING}.yaml", _storing(out))
    journal.run("store boxes", digest(load_yaml(storing)), partial(_store, out, storing, chosen, device))
    errors = journal.run("pose errors", PUBLISHED, partial(_pose_errors, out))
    marks = {}
    for method in METHODS:
        for correction in CORRECTIONS:
            work = partial(_sweep, out, method, correction, chosen, device)
            found = journal.run(f"{method}, {correction}", [LEVELS, CORRECTIONS[correction]], work)
            marks[method, correction] = {t: found[f"{t:g}"] for t in THRESHOLDS}
    table = CorrectionTable(marks, {float(level): found for level, found in errors.items()}, ())
    return CorrectionTable(table.marks, table.pose_errors, _written(out, table, journal))


def _hypes(method: str, out: Path, preset: DemoPreset) -> dict[str, Any]:
    folders = {key: str((out / "data" / split).resolve()) for key, split in SPLITS.items()}
    return {"_base_": str(SHIPPED / "sim" / f"{METHODS[method]}.yaml"), **folders, **preset.training[method]}


def _storing(out: Path) -> dict[str, Any]:
    """The configuration of the trained detector with a section that stores its boxes."""
    found = load_yaml(None, model_dir=out / "runs" / FINDER)
    section = {
        "stage1_model": found["model"]["core_method"],
        "stage1_model_config": found["model"]["args"],
        "stage1_model_path": str(out / "runs" / FINDER),
        "stage1_postprocessor_name": "uncertainty_voxel_postprocessor",
        "stage1_postprocessor_config": found["postprocess"],
        "output_save_path": str(out / STORING),
    }
    return {
        "_base_": str((out / "hypes" / f"{FINDER}.yaml").resolve()),
        "comm_range": 1e5,
        "box_align_pre_calc": section,
    }


def _simulate(out: Path, preset: DemoPreset) -> Facts:
    report = simulate(SimulationOptions(out=out / "data", seed=SEED, overwrite=True, **preset.simulation))
    return {"frames": report.frames, "digest": report.digest}


def _train(out: Path, detector: str, hypes_file: Path, device: str) -> Facts:
    folder = out / "runs" / detector
    if detector == FINDER:
        run_training(hypes_file, None, TrainingOptions(run_dir=folder, device=device))
    else:
        prepare_continued_run(folder, load_yaml(hypes_file), out / "runs" / FINDER, {})
        run_training(None, folder, TrainingOptions(device=device))
    return {"run_dir": str(folder)}


def _store(out: Path, hypes_file: Path, preset: DemoPreset, device: str) -> Facts:
    options = StorageOptions(hypes_file, splits=("test",), device=device, workers=preset.workers, overwrite=True)
    stored = store_boxes(options)["test"]
    return {"boxes": stored.boxes, "frames": stored.frames}


def _boxes(out: Path) -> Path:
    return out / STORING / "test" / FILE


def _pose_errors(out: Path) -> Facts:
    errors = {}
    for level in filter(None, LEVELS):
        found = evaluate_poses(PoseErrorOptions(_boxes(out), pos_std=level, rot_std=level))
        errors[f"{level:g}"] = {variant: found.summary(variant) for variant in found.metres}
    return errors


def _sweep(out: Path, method: str, correction: str, preset: DemoPreset, device: str) -> Facts:
    args = CORRECTIONS[correction]
    section = None if args is None else {"box_alignment": {"boxes": str(_boxes(out)), "args": args, "when": "test"}}
    (sweep,) = run_noise_sweep(
        InferenceOptions(
            model_dir=out / "runs" / METHODS[method],
            fusion_method=method,
            save_vis_interval=0,
            workers=preset.workers,
            device=device,
            perturb=section,
        )
    )
    return {f"{t:g}": [report.ap(t, GLOBAL_SORT) for report in sweep.reports.values()] for t in THRESHOLDS}


def _written(out: Path, table: CorrectionTable, journal: Journal) -> tuple[Path, ...]:
    curves = {
        f"pose noise (m, degrees), AP@{t:g}": {
            f"{method}, {correction}": (LEVELS, marks[t]) for (method, correction), marks in table.marks.items()
        }
        for t in THRESHOLDS
    }
    content = {
        "levels": list(LEVELS),
        "ap": {", ".join(key): {f"{t:g}": values for t, values in marks.items()} for key, marks in table.marks.items()},
        "pose_errors": {f"{level:g}": found for level, found in table.pose_errors.items()},
        "seconds": {name: round(record.seconds, 1) for name, record in journal.records.items()},
    }
    return (
        write_text(out / "table.md", markdown_table(table.header, table.rows) + "\n"),
        write_yaml(out / "summary.yaml", content),
        draw_curves(curves, out / "pose_correction.png", "Pose correction by boxes", "average precision", marked=True),
    )
