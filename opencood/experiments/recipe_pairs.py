"""Tables of pairs of modalities: one line per ego and others, one column per method, and the mean over pairs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from opencood.evaluation.bootstrap import Interval, seeds_interval
from opencood.experiments.recipe_rows import SEED, Tested

MEAN = "mean"
SHOWN = (0.5, 0.7)


def methods_of(rows: Mapping[str, Tested]) -> list[str]:
    """The methods of these tables, in the order of the recipe."""
    return list(dict.fromkeys(row.method for row in rows.values() if row.pair and not _alike(row.pair)))


def pairs_of(rows: Mapping[str, Tested]) -> list[tuple[str, ...]]:
    """The pairs of an ego and others of another modality; agents that are all alike are no matter of these tables."""
    return list(dict.fromkeys(row.pair for row in rows.values() if len(row.pair) == 2 and not _alike(row.pair)))


def _alike(pair: tuple[str, ...]) -> bool:
    return len(pair) == 2 and pair[0] == pair[1]


def row_of(rows: Mapping[str, Tested], method: str, pair: tuple[str, ...]) -> Tested | None:
    """The row of a method and a pair; for a method that knows the ego alone, that of the ego."""
    found = {row.pair: row for row in rows.values() if row.method == method and row.pair}
    return found.get(pair, found.get(pair[:1]))


def mean_of(rows: Mapping[str, Tested], method: str, iou: float) -> np.ndarray | None:
    """AP (S, 1 + R) of a method, averaged over all pairs; None where it lacks one."""
    found = [row_of(rows, method, pair) for pair in pairs_of(rows)]
    known = [row.resampled[iou] for row in found if row is not None]
    return np.mean(known, axis=0) if known and len(known) == len(found) else None


def ap_cells(rows: Mapping[str, Tested], iou: float) -> list[list[str]]:
    """Lines of AP with intervals, the mean last."""
    methods = methods_of(rows)
    lines = []
    for pair in pairs_of(rows):
        found = [row_of(rows, method, pair) for method in methods]
        lines.append(["+".join(pair), *(_shown(None if row is None else row.resampled[iou]) for row in found)])
    return [*lines, [MEAN, *(_shown(mean_of(rows, method, iou)) for method in methods)]]


def f1_cells(rows: Mapping[str, Tested]) -> list[list[str]]:
    """Lines of F1 at the chosen thresholds, where there are any."""
    methods = methods_of(rows)
    if not any(row.tuning for row in rows.values()):
        return []
    lines = []
    for pair in pairs_of(rows):
        found = [row_of(rows, method, pair) for method in methods]
        lines.append(["+".join(pair), *(_f1(row) for row in found)])
    return lines


def size_cells(rows: Mapping[str, Tested]) -> list[list[str]]:
    """Lines of kilobits per frame, of all messages to the ego together."""
    methods = methods_of(rows)
    lines = []
    for pair in pairs_of(rows):
        lines.append(["+".join(pair), *(_kilobits(row_of(rows, method, pair)) for method in methods)])
    return lines


def _kilobits(row: Tested | None) -> str:
    """Nothing where a method was not tested; an ego alone is sent nothing."""
    return "" if row is None else f"{1000 * (row.megabits or 0.0):.4g}"


def _shown(values: np.ndarray | None) -> str:
    if values is None:
        return ""
    interval: Interval = seeds_interval(values, np.random.default_rng(SEED))
    return f"{interval.value:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"


def _f1(row: Tested | None) -> str:
    if row is None or not row.operating:
        return ""
    f1, threshold = (np.mean([getattr(one, name) for one in row.operating]) for name in ("f1", "threshold"))
    return f"{f1:.3f} at {threshold:.2f}" if np.isfinite(threshold) else f"{f1:.3f}"
