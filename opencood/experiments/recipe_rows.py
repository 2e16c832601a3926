"""What the tests of a recipe found, row by row and seed by seed, and its average precision over resampled frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from opencood.errors import DataError
from opencood.evaluation.bootstrap import frame_weights, resampled_ap
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.operating_point import OperatingPoint, at_threshold, best_threshold
from opencood.evaluation.report import THRESHOLDS, match_all
from opencood.experiments.recipe import Recipe
from opencood.experiments.recipe_stages import Task, tasks_of
from opencood.experiments.recipe_tests import row_name, tuning_file

RESAMPLES = 2000
SEED = 0
# IoU at which detections are right for the choice of a score threshold.
OPERATING_IOU = 0.5


@dataclass
class Tested:
    """One row: a method, perhaps for a pair of modalities, and what it found with every seed.

    Attributes:
        found: detections on the test split.
        tuning: detections on the split that chooses the threshold; empty when none does.
    """

    label: str
    method: str
    pair: tuple[str, ...] = ()
    found: list[DetectionSet] = field(default_factory=list)
    tuning: list[DetectionSet] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)

    @cached_property
    def resampled(self) -> dict[float, np.ndarray]:
        """AP of every seed and resample (S, 1 + R) by IoU threshold; all rows and seeds take the same frames.

        Raises:
            DataError: the seeds did not see the same frames.
        """
        if len({len(one) for one in self.found}) > 1:
            raise DataError(f"row '{self.label}': the seeds were tested on different frames; run all of them again.")
        weights = frame_weights(len(self.found[0]), RESAMPLES, np.random.default_rng(SEED))
        values = [resampled_ap(one, THRESHOLDS, weights) for one in self.found]
        return {t: np.stack([of_seed[t] for of_seed in values]) for t in THRESHOLDS}

    @cached_property
    def operating(self) -> list[OperatingPoint]:
        """Per seed what the test split shows at the threshold that the other split chose."""
        chosen = (best_threshold(match_all(one, [OPERATING_IOU]), OPERATING_IOU) for one in self.tuning)
        matches = (match_all(one, [OPERATING_IOU]) for one in self.found)
        pairs = zip(matches, chosen, strict=False)
        return [at_threshold(frames, OPERATING_IOU, threshold) for frames, threshold in pairs]

    @property
    def megabits(self) -> float | None:
        """Mean size of a frame's messages; None when they were not metered."""
        sizes = [size for one in self.found if (size := one.megabits_per_frame()) is not None]
        return float(np.mean(sizes)) if sizes else None


def tested_rows(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Tested]:
    """Read the detections of every tested row and seed; ``facts`` of the records hold the speeds.

    Where a test names a ``truth``, its detections are compared with the objects of that method's row.

    Raises:
        DataError: a file is missing or holds no frame, or two rows that share a truth hold different frames.
    """
    rows: dict[str, Tested] = {}
    for task in tasks_of(recipe):
        if task.stage.kind == "infer":
            for label, row in facts[task.name]["rows"].items():
                _read(rows, task, label, row["frames_per_second"])
    return rows


def _read(rows: dict[str, Tested], task: Task, label: str, speed: float | None) -> None:
    stage = task.stage
    pair = next((pair for pair in stage.pairs if row_name(stage.method, pair) == label), ())
    row = rows.setdefault(label, Tested(label, stage.method, pair))
    truth = rows.get(row_name(str(stage.spec["truth"]), pair)) if "truth" in stage.spec else None
    seed = len(row.found)
    file = task.folder / f"{label}.npz"
    found = DetectionSet.load(file)
    if not found.frames:
        raise DataError(f"{file}: row '{label}' tested no frame, all were left out; see why in {task.log}.")
    row.found.append(_against(found, truth.found if truth else [], seed))
    tuned = tuning_file(task.folder, label)
    if tuned.is_file():
        row.tuning.append(_against(DetectionSet.load(tuned), truth.tuning if truth else [], seed))
    if speed is not None:
        row.speeds.append(speed)


def _against(found: DetectionSet, truth: Sequence[DetectionSet], seed: int) -> DetectionSet:
    return found.against(truth[seed]) if seed < len(truth) else found


def csv_lines(rows: Mapping[str, Tested]) -> list[str]:
    """Every row and seed as comma-separated values, with a header."""
    marks = [f"ap{100 * threshold:.0f}" for threshold in THRESHOLDS]
    header = ["method", "ego", "others", "seed_number", "frames", *marks, "threshold", "precision", "recall"]
    lines = [",".join([*header, "megabits_per_frame"])]
    for row in rows.values():
        for number, found in enumerate(row.found):
            areas = [f"{row.resampled[t][number, 0]:.6f}" for t in THRESHOLDS]
            at = row.operating[number] if number < len(row.operating) else None
            point = [f"{at.threshold:.6f}", f"{at.precision:.6f}", f"{at.recall:.6f}"] if at else [""] * 3
            size = found.megabits_per_frame()
            who = [row.method, row.pair[0] if row.pair else "", "" if len(row.pair) < 2 else row.pair[1]]
            cells = [*who, str(number), str(len(found)), *areas, *point, "" if size is None else f"{size:.6f}"]
            lines.append(",".join(cells))
    return lines
