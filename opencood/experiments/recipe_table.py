"""The table a recipe ends with: average precision with bootstrap intervals over seeds and frames, and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from opencood.errors import ConfigError, DataError
from opencood.evaluation.bootstrap import Interval, frame_weights, seeds_interval, weighted_ap
from opencood.evaluation.files import write_text, write_yaml
from opencood.evaluation.report import THRESHOLDS, match_all
from opencood.evaluation.subsets import in_band, only
from opencood.evaluation.tables import markdown_table, text_table
from opencood.experiments import recipe_pairs
from opencood.experiments.evaluate import parse_bands
from opencood.experiments.recipe import Recipe
from opencood.experiments.recipe_rows import RESAMPLES, SEED, Tested, csv_lines, tested_rows
from opencood.experiments.recipe_stages import tasks_of

HEADER = ("row", *(f"AP@{threshold:g}" for threshold in THRESHOLDS), "megabits/frame", "frames/s", "seeds")
TRAINED = ("what trains", "parameters")
COMPARED = 0.5
Grid = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, header, lines


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
    """Rows, and differences of AP@0.5 by the pair of rows, or of the means over pairs of two methods.

    Attributes:
        distances: AP@0.5 by distance from the ego, with the number of objects there, and row.
        grids: further tables: distances, pairs of modalities by method, and what trainings change.
        csv: every row and seed.
    """

    rows: tuple[Row, ...]
    differences: Mapping[tuple[str, str], Interval]
    distances: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    grids: tuple[Grid, ...] = ()
    csv: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What a command line prints."""
        if not self.rows:
            return ["no table: the recipe tests nothing"]
        frames = ", ".join(sorted({str(row.frames) for row in self.rows}))
        told = [f"{a} minus {b}, AP@0.5: {interval}" for (a, b), interval in self.differences.items()]
        note = f"intervals: 95 % bootstrap over {frames} frames" + (" and over seeds" if self._several_seeds else "")
        text = ["", text_table(HEADER, [row.cells() for row in self.rows]), ""]
        for title, header, lines in self.grids:
            text += [title, text_table(header, lines), ""]
        return [*text, *told, note]

    def save(self, out: Path) -> None:
        """Write ``table.md``, ``rows.csv`` and ``summary.yaml``."""
        if not self.rows:
            return
        text = [markdown_table(HEADER, [row.cells() for row in self.rows]), ""]
        for title, header, lines in self.grids:
            text += [f"**{title}**", "", markdown_table(header, lines), ""]
        text += [f"* {a} minus {b}, AP@0.5: {interval}" for (a, b), interval in self.differences.items()]
        write_text(out / "table.md", "\n".join(text).rstrip() + "\n")
        write_text(out / "rows.csv", "\n".join(self.csv) + "\n")
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
    """Read what every test found; ``facts`` are those of the records, by task.

    Raises:
        ConfigError: ``compare`` names a method that was not tested on all pairs.
        DataError: the seeds of a row did not see the same frames.
    """
    found = tested_rows(recipe, facts)
    tests = [stage for stage in recipe.stages.values() if stage.kind == "infer"]
    left_out = {stage.method for stage in tests if not any(map(stage.runs_for, recipe.seeds))}
    pairs = [pair for pair in recipe.compare if not left_out & set(pair)]
    compared = {name: _compared(recipe, found, name) for pair in pairs for name in pair}
    distances = _by_distance(recipe, found)
    return Table(
        tuple(_row(row) for row in found.values()),
        {(a, b): _difference(compared, a, b) for a, b in pairs},
        distances,
        (*_distance_grid(distances), *_pair_grids(found), *_parameter_grid(recipe, facts)),
        tuple(csv_lines(found)),
    )


def _row(row: Tested) -> Row:
    return Row(
        row.label,
        {t: seeds_interval(values, np.random.default_rng(SEED)) for t, values in row.resampled.items()},
        row.megabits,
        fmean(row.speeds) if row.speeds else None,
        len(row.found),
        len(row.found[0]),
    )


def _by_distance(recipe: Recipe, found: Mapping[str, Tested]) -> dict[str, dict[str, Interval]]:
    """AP@0.5 by distance from the ego, with the number of objects of a test, and row."""
    bands = {name: band for name, band in (parse_bands(recipe.bands) or {}).items() if band is not None}
    if not bands or not found:
        return {}
    first = next(iter(found.values())).found[0]
    counts = {name: only(first, partial(in_band, band=band)).ground_truth_count for name, band in bands.items()}
    return {
        f"{name} ({counts[name]} objects)": {label: _ap_in_band(row, band) for label, row in found.items()}
        for name, band in bands.items()
    }


def _distance_grid(distances: Mapping[str, Mapping[str, Interval]]) -> list[Grid]:
    if not distances:
        return []
    labels = next(iter(distances.values()))
    lines = [[label, *(_shown(rows[label]) for rows in distances.values())] for label in labels]
    return [(f"AP@{COMPARED:g} by distance", ["row", *distances], lines)]


def _ap_in_band(row: Tested, band: tuple[float, float]) -> Interval:
    near = [match_all(only(one, partial(in_band, band=band)), [COMPARED]) for one in row.found]
    weights = frame_weights(len(near[0]), RESAMPLES, np.random.default_rng(SEED))
    values = np.stack([weighted_ap(frames, COMPARED, weights) for frames in near])
    return seeds_interval(values, np.random.default_rng(SEED))


def _pair_grids(found: Mapping[str, Tested]) -> list[Grid]:
    """AP, F1 and sizes of pairs, where pairs were tested."""
    if not recipe_pairs.pairs_of(found):
        return []
    header = ["ego+others", *recipe_pairs.methods_of(found)]
    grids: list[Grid] = [(f"AP@{t:g}", header, recipe_pairs.ap_cells(found, t)) for t in recipe_pairs.SHOWN]
    chosen = recipe_pairs.f1_cells(found)
    if chosen:
        grids.append(("F1 at IoU 0.5, at the score threshold chosen on another split", header, chosen))
    return [*grids, ("kilobits per frame, all messages to the ego", header, recipe_pairs.size_cells(found))]


def _parameter_grid(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]]) -> list[Grid]:
    """Elements of the parameters that trainings changed, of the first seed that has them."""
    lines = []
    for label, stages in recipe.parameters.items():
        tasks = [next(task for task in tasks_of(recipe) if task.stage.name == stage) for stage in stages]
        numbers = [facts[task.name].get("parameters") for task in tasks]
        known = [int(number) for number in numbers if number is not None]
        lines.append([label, f"{sum(known):,}" if len(known) == len(numbers) else ""])
    return [("parameters that train", TRAINED, lines)] if lines else []


def _compared(recipe: Recipe, found: Mapping[str, Tested], name: str) -> np.ndarray:
    """AP@0.5 (S, 1 + R) of a row, or of a method over all pairs."""
    if name in found:
        return found[name].resampled[COMPARED]
    values = recipe_pairs.mean_of(found, name, COMPARED)
    if values is None:
        raise ConfigError(f"{recipe.file}: compare: '{name}' was not tested on every pair that another method was.")
    return values


def _difference(compared: Mapping[str, np.ndarray], a: str, b: str) -> Interval:
    first, second = compared[a], compared[b]
    if first.shape != second.shape:
        raise DataError(f"compare: '{a}' and '{b}' have different numbers of seeds.")
    return seeds_interval(first - second, np.random.default_rng(SEED))


def _shown(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"


def _plain(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "lower": interval.lower, "upper": interval.upper}
