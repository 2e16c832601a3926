"""The table a recipe ends with: average precision with bootstrap intervals over seeds and frames, and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from opencood.errors import ConfigError, DataError, nearest
from opencood.evaluation.bootstrap import Interval, frame_weights, seeds_interval, weighted_ap
from opencood.evaluation.detections import DetectionSet
from opencood.evaluation.files import write_text, write_yaml
from opencood.evaluation.report import THRESHOLDS, match_all
from opencood.evaluation.tables import markdown_table, text_table
from opencood.experiments.recipe import Recipe
from opencood.experiments.recipe_stages import tasks_of

HEADER = ("row", *(f"AP@{threshold:g}" for threshold in THRESHOLDS), "megabits/frame", "frames/s", "seeds")
RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Row:
    """One line: average precision by IoU threshold, mean size of messages, speed, over so many seeds."""

    label: str
    ap: Mapping[float, Interval]
    megabits: float | None
    speed: float | None
    seeds: int
    frames: int

    def cells(self) -> list[str]:
        """What the table shows."""
        marks = [_shown(interval) for interval in self.ap.values()]
        size = "" if self.megabits is None else f"{self.megabits:.3g}"
        return [self.label, *marks, size, "" if self.speed is None else f"{self.speed:.1f}", str(self.seeds)]


@dataclass(frozen=True)
class Table:
    """Rows, and differences of AP@0.5 by the pair of rows."""

    rows: tuple[Row, ...]
    differences: Mapping[tuple[str, str], Interval]

    def lines(self) -> list[str]:
        """What a command line prints."""
        if not self.rows:
            return ["no table: the recipe tests nothing"]
        frames = ", ".join(sorted({str(row.frames) for row in self.rows}))
        told = [f"{a} minus {b}, AP@0.5: {interval}" for (a, b), interval in self.differences.items()]
        note = f"intervals: 95 % bootstrap over {frames} frames" + (" and over seeds" if self._several_seeds else "")
        return ["", text_table(HEADER, [row.cells() for row in self.rows]), "", *told, note]

    def save(self, out: Path) -> None:
        """Write ``table.md`` and ``summary.yaml``."""
        if not self.rows:
            return
        told = [f"* {a} minus {b}, AP@0.5: {interval}" for (a, b), interval in self.differences.items()]
        text = "\n".join([markdown_table(HEADER, [row.cells() for row in self.rows]), "", *told])
        write_text(out / "table.md", text.rstrip() + "\n")
        rows = {
            row.label: {
                "ap": {f"{threshold:g}": _plain(interval) for threshold, interval in row.ap.items()},
                "megabits_per_frame": row.megabits,
                "frames_per_second": row.speed,
                "seeds": row.seeds,
                "frames": row.frames,
            }
            for row in self.rows
        }
        differences = [{"rows": list(pair), "ap50": _plain(interval)} for pair, interval in self.differences.items()]
        write_yaml(out / "summary.yaml", {"rows": rows, "differences": differences})

    @property
    def _several_seeds(self) -> bool:
        return any(row.seeds > 1 for row in self.rows)


def make_table(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Read the detections of every tested row and seed; ``facts`` of the records hold the speeds.

    Raises:
        ConfigError: ``compare`` names a row that does not exist.
        DataError: the seeds of a row did not see the same frames.
    """
    found: dict[str, list[DetectionSet]] = {}
    speeds: dict[str, list[float]] = {}
    for task in tasks_of(recipe):
        if task.stage.kind != "infer":
            continue
        for label, row in facts[task.name]["rows"].items():
            found.setdefault(label, []).append(DetectionSet.load(task.folder / f"{label}.npz"))
            if row["frames_per_second"] is not None:
                speeds.setdefault(label, []).append(row["frames_per_second"])
    for name in {name for pair in recipe.compare for name in pair}:
        if name not in found:
            raise ConfigError(
                f"{recipe.file}: compare: no row '{name}'.{nearest(name, found)} Rows: {', '.join(found)}."
            )
    resampled = {label: _resampled(label, detections) for label, detections in found.items()}
    rows = tuple(_row(label, detections, resampled[label], speeds) for label, detections in found.items())
    return Table(rows, {(a, b): _difference(resampled, a, b) for a, b in recipe.compare})


def _resampled(label: str, detections: Sequence[DetectionSet]) -> dict[float, np.ndarray]:
    """AP of every seed and resample (S, 1 + R) by threshold; all rows and seeds take the same frames."""
    if len({len(one) for one in detections}) > 1:
        raise DataError(f"row '{label}': the seeds were tested on different frames; run all of them again.")
    weights = frame_weights(len(detections[0]), RESAMPLES, np.random.default_rng(SEED))
    matches = [match_all(one) for one in detections]
    return {t: np.stack([weighted_ap(frames, t, weights) for frames in matches]) for t in THRESHOLDS}


def _row(
    label: str,
    detections: Sequence[DetectionSet],
    resampled: Mapping[float, np.ndarray],
    speeds: Mapping[str, Sequence[float]],
) -> Row:
    sizes = [size for one in detections if (size := one.megabits_per_frame()) is not None]
    return Row(
        label,
        {t: seeds_interval(values, np.random.default_rng(SEED)) for t, values in resampled.items()},
        fmean(sizes) if sizes else None,
        fmean(speeds[label]) if label in speeds else None,
        len(detections),
        len(detections[0]),
    )


def _difference(resampled: Mapping[str, Mapping[float, np.ndarray]], a: str, b: str) -> Interval:
    first, second = resampled[a][0.5], resampled[b][0.5]
    if first.shape != second.shape:
        raise DataError(f"compare: '{a}' and '{b}' have different numbers of seeds.")
    return seeds_interval(first - second, np.random.default_rng(SEED))


def _shown(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"


def _plain(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "lower": interval.lower, "upper": interval.upper}
