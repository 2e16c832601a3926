"""Bars and curves of result tables, and maps side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from opencood.visualization import style
from opencood.visualization.bev import save_figure


def draw_ap_bars(
    rows: Sequence[tuple[str, Mapping[float, float]]],
    path: str | Path,
    captions: Sequence[str] | None = None,
    title: str = "",
) -> Path:
    """Grouped bars: one group per method, one bar per IoU threshold, a caption (such as bandwidth) under each name."""
    thresholds = sorted({threshold for _, values in rows for threshold in values})
    figure = Figure(figsize=(2.2 + 1.9 * len(rows), 4.6), facecolor=style.BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _plain(axes)
    width = 0.8 / max(len(thresholds), 1)
    for position, threshold in enumerate(thresholds):
        offset = (position - (len(thresholds) - 1) / 2) * width
        heights = [values.get(threshold, float("nan")) for _, values in rows]
        bars = axes.bar([i + offset for i in range(len(rows))], heights, width * 0.92, color=style.BARS[position % 3],
                        label=f"AP@{threshold:g}")  # fmt: skip
        axes.bar_label(bars, fmt="%.2f", color=style.TEXT, fontsize=9, padding=2)
    names = [name for name, _ in rows]
    labels = (
        names if captions is None else [f"{name}\n{caption}" for name, caption in zip(names, captions, strict=True)]
    )
    axes.set_xticks(range(len(rows)), labels, color=style.TEXT, fontsize=10)
    axes.set_ylim(0, 1.08)
    axes.tick_params(axis="x", length=0)
    axes.set_title(title, color=style.TEXT, fontsize=13, weight="bold", loc="left", pad=26)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, labelcolor=style.TEXT, fontsize=9)
    figure.tight_layout()
    return save_figure(figure, path)


# Numbers, or words in the order in which they stand; and (n,) values, or (n, 3) with their lower and upper bounds.
Curve = tuple[ArrayLike, ArrayLike]


def draw_curves(
    panels: Mapping[str, Mapping[str, Curve]],
    path: str | Path,
    title: str = "",
    height: str = "",
    marked: bool = False,
    logarithmic: bool = False,
) -> Path:
    """One panel beside the other, each with named curves over the quantity that names the panel.

    Args:
        panels: what is on the x axis -> name of a curve -> its x and y. Bounds are drawn as a band.
        height: what is on the y axis.
        marked: the points of the curves are marked, and stand at ticks of their own.
        logarithmic: the x axis is.
    """
    figure = Figure(figsize=(4.8 * len(panels), 4.4), facecolor=style.BACKGROUND, layout="constrained")
    FigureCanvasAgg(figure)
    lines: dict[str, Line2D] = {}
    for axes, (quantity, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        _plain(axes)
        for position, (name, (across, up)) in enumerate(curves.items()):
            values = np.asarray(up, float)
            centre = values if values.ndim == 1 else values[:, 0]
            color, dashes = style.curve(position)
            shape = "o" if marked else None
            (lines[name],) = axes.plot(across, centre, dashes, color=color, lw=1.8, marker=shape, ms=4, label=name)
            if values.ndim > 1:
                axes.fill_between(across, values[:, 1], values[:, 2], color=color, alpha=0.15, lw=0)
        if logarithmic:
            axes.set_xscale("log")
        elif marked:
            axes.set_xticks(
                list(dict.fromkeys(at for across, _ in curves.values() for at in np.asarray(across).tolist()))
            )
        axes.set_xlabel(quantity, color=style.TEXT)
        axes.set_ylabel(height, color=style.TEXT)
        axes.tick_params(axis="x", colors=style.MUTED)
    figure.suptitle(title, color=style.TEXT, fontsize=13, weight="bold")
    columns = min(len(lines), 2 * len(panels))
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=columns, frameon=False,
                  labelcolor=style.TEXT, fontsize=9)  # fmt: skip
    return save_figure(figure, path)


def draw_maps(rows: Sequence[Sequence[ArrayLike]], path: str | Path, row: str, column: str) -> Path:
    """A grid of (H, W) maps of numbers from 0 to 1; ``row`` and ``column`` say what is counted along either side."""
    columns = max(map(len, rows))
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.6 * len(rows) + 0.4), facecolor=style.BACKGROUND)
    FigureCanvasAgg(figure)
    for number, (maps, panels) in enumerate(zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True)):
        for position, (values, axes) in enumerate(zip(maps, panels, strict=False)):
            axes.imshow(np.asarray(values), vmin=0, vmax=1, origin="lower")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"{row} {number}, {column} {position}", color=style.TEXT, fontsize=9)
    figure.tight_layout()
    return save_figure(figure, path)


def _plain(axes: Axes) -> None:
    """Axes without a frame, with lines across."""
    axes.set_facecolor(style.BACKGROUND)
    axes.tick_params(axis="y", colors=style.MUTED)
    axes.grid(axis="y", color=style.GRID, lw=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
