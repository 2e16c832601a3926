"""What a sweep leaves behind: one table as CSV, Markdown and LaTeX, and a picture for every factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from opencood.evaluation.files import write_text
from opencood.evaluation.tables import csv_table, latex_table, markdown_table, text_table
from opencood.experiments.sweep import Row, table
from opencood.experiments.sweep_factors import FACTORS, SIZES, Value, shown
from opencood.visualization.charts import Curve, draw_curves

Bounds = tuple[float, float, float]  # a value with the ends of its interval

TABLE = "table"
# One column for each in papers; the CSV file has everything.
HEADER = ("AP@0.3", "AP@0.5", "AP@0.7", "megabits/frame")


def summary(rows: Sequence[Row], factors: Sequence[str]) -> list[str]:
    """What a command line prints."""
    head, lines = _short_table(rows, factors)
    told = ["", text_table(head, lines), "intervals: 95 % bootstrap over frames; detections sorted together"]
    truths = {row.report.ground_truths for row in rows if "agents" not in row.condition}
    if len(truths) > 1:
        told.append("note: not all rows have the same ground truth; compare them with care (see table.csv).")
    return told


def write(rows: Sequence[Row], factors: Sequence[str], out: Path) -> list[Path]:
    """Tables and pictures."""
    return write_tables(rows, factors, out) + draw(rows, factors, out)


def write_tables(rows: Sequence[Row], factors: Sequence[str], out: Path) -> list[Path]:
    """``table.csv`` with every figure; ``table.md`` and ``table.tex`` with AP (detections sorted together) and size."""
    head, short = _short_table(rows, factors)
    return [
        write_text(out / f"{TABLE}.csv", csv_table(*table(rows, factors))),
        write_text(out / f"{TABLE}.md", markdown_table(head, short) + "\n"),
        write_text(out / f"{TABLE}.tex", latex_table(head, short)),
    ]


def _short_table(rows: Sequence[Row], factors: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    header, lines = table(rows, factors)
    columns = 1 + len(factors)
    return [*header[:columns], *HEADER], [_short(row, line[:columns]) for row, line in zip(rows, lines, strict=True)]


def _short(row: Row, names: Sequence[str]) -> list[str]:
    size = row.report.megabits_per_frame
    half = f"{row.ap(0.5).value:.3f} [{row.ap(0.5).lower:.3f}, {row.ap(0.5).upper:.3f}]"
    marks = [f"{row.ap(0.3).value:.3f}", half, f"{row.ap(0.7).value:.3f}"]
    return [*names, *marks, "" if size is None else f"{size:.3g}"]


def draw(rows: Sequence[Row], factors: Sequence[str], out: Path, threshold: float = 0.5) -> list[Path]:
    """A picture for every factor, and one of AP against bandwidth; one line per method and what else is varied."""
    height = f"AP@{threshold:g}"
    files = []
    for name in factors:
        if curves := _curves(rows, name, threshold):
            panel = {FACTORS[name].label: curves}
            files.append(draw_curves(panel, out / f"{name}.png", height=height, marked=True))
    if against_size := _against_size(rows, threshold):
        panel = {"megabits per frame": against_size}
        files.append(draw_curves(panel, out / "bandwidth.png", height=height, marked=True, logarithmic=True))
    return files


def _curves(rows: Sequence[Row], factor: str, threshold: float) -> dict[str, Curve]:
    """AP over the values of a factor; rows that differ in anything else are lines of their own."""
    neutral = FACTORS[factor].neutral
    lines: dict[str, dict[Value, Bounds]] = {}
    for row in rows:
        others = {name: value for name, value in row.condition.items() if name != factor}
        value = row.condition.get(factor, neutral)
        if value is not None:
            label = ", ".join([row.method, *(f"{name} {shown(other)}" for name, other in others.items())])
            lines.setdefault(label, {})[value] = _bounds(row, threshold)
    return {label: _as_curve(line, factor) for label, line in lines.items() if len(line) > 1}


def _as_curve(line: Mapping[Value, Bounds], factor: str) -> Curve:
    words = isinstance(FACTORS[factor].neutral, str)
    places = list(line) if words else sorted(line, key=float)
    return places, [line[place] for place in places]


def _against_size(rows: Sequence[Row], threshold: float) -> dict[str, Curve]:
    """AP over bytes: undisturbed and with shorter messages."""
    points: dict[str, list[tuple[float, Bounds]]] = {}
    for row in rows:
        size = row.report.megabits_per_frame
        if size and set(row.condition) <= set(SIZES):
            points.setdefault(row.method, []).append((size, _bounds(row, threshold)))
    return {method: ([x for x, _ in sorted(found)], [y for _, y in sorted(found)]) for method, found in points.items()}


def _bounds(row: Row, threshold: float) -> Bounds:
    interval = row.ap(threshold)
    return interval.value, interval.lower, interval.upper
