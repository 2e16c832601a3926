"""Several evaluations side by side: a printed table and a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opencood.evaluation.files import write_text
from opencood.evaluation.report import THRESHOLDS, Report
from opencood.evaluation.tables import text_table

MEASURES = (*(f"ap{round(100 * threshold)}" for threshold in THRESHOLDS), "bytes_per_frame", "frames", "ground_truths")


@dataclass(frozen=True)
class ResultRow:
    """One evaluation: what it is called, one word per column, and its figures (None: not measured)."""

    label: tuple[str, ...]
    figures: tuple[float | None, ...]

    @classmethod
    def of(cls, label: Sequence[str], report: Report) -> ResultRow:
        """The row of a report."""
        size = report.megabits_per_frame
        sent = None if size is None else size * 1e6 / 8
        marks = [report.ap(threshold) for threshold in THRESHOLDS]
        return cls(tuple(label), (*marks, sent, report.frames, report.ground_truths))


def mean_row(rows: Sequence[ResultRow], label: Sequence[str]) -> ResultRow:
    """The unweighted mean of rows; a figure that one of them lacks is left out."""
    columns = zip(*(row.figures for row in rows), strict=True)
    return ResultRow(tuple(label), tuple(_mean([value for value in column if value is not None]) for column in columns))


def lines_of(rows: Sequence[ResultRow], columns: Sequence[str]) -> list[str]:
    """The table; ``columns`` says what the words of the labels are."""
    shown = [[*row.label, *(_shown(value, name) for name, value in zip(MEASURES, row.figures, strict=True))]
             for row in rows]  # fmt: skip
    return text_table([*columns, *MEASURES], shown).splitlines()


def write_csv(path: Path, rows: Sequence[ResultRow], columns: Sequence[str]) -> Path:
    """The same as CSV, in full precision; an empty cell was not measured.

    Raises:
        StorageError: it could not be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *MEASURES])
    for row in rows:
        writer.writerow([*row.label, *("" if value is None else value for value in row.figures)])
    return write_text(path, text.getvalue())


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _shown(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    if name.startswith("ap"):
        return "NaN" if math.isnan(value) else f"{value:.4f}"
    return f"{value:,.0f}"
