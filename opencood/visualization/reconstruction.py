"""What pretraining sees, predicts and should have predicted, side by side from above."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from opencood.visualization import style
from opencood.visualization.bev import make_figure, save_figure

_SIDE = 6.0  # inches of a panel
_HEAD, _MARGIN = 0.8, 0.6


def draw_reconstruction(
    panels: Sequence[tuple[str, Sequence[tuple[NDArray, float]]]],
    limits: Sequence[float],
    path: str | Path,
    title: str = "",
    left_hand: bool = False,
) -> Path:
    """Draw panels of points, coloured by height.

    Args:
        panels: name, and clouds (N, 3) in metres with their opacity, drawn in that order.
        limits: ``[x0, y0, x1, y1]`` shown, metres.
        left_hand: y points down, as in data whose y points to the right.

    Raises:
        StorageError: the file cannot be written.
    """
    x0, y0, x1, y1 = limits
    height = _SIDE * (y1 - y0) / (x1 - x0)
    total = len(panels) * (_SIDE + _MARGIN) + _MARGIN, height + _HEAD + _MARGIN
    figure = make_figure(*total)
    for column, (name, clouds) in enumerate(panels):
        place = (_MARGIN + column * (_SIDE + _MARGIN)) / total[0], _MARGIN / total[1]
        axes = figure.add_axes((*place, _SIDE / total[0], height / total[1]))
        axes.set(xlim=(x0, x1), ylim=(y1, y0) if left_hand else (y0, y1), aspect="equal", facecolor=style.PANEL)
        axes.set_title(name, color=style.TEXT, fontsize=12)
        axes.tick_params(colors=style.MUTED, labelsize=8)
        for points, opacity in clouds:
            _cloud(axes, points, opacity)
    figure.text(0.5, 1 - 0.22 / total[1], title, color=style.TEXT, fontsize=13, weight="bold", ha="center", va="center")
    return save_figure(figure, path)


def _cloud(axes: Axes, points: NDArray, opacity: float) -> None:
    low, high = style.HEIGHT_RANGE
    x, y, z = np.asarray(points, np.float64).reshape(-1, 3).T
    axes.scatter(x, y, c=z, s=2.0, cmap=style.HEIGHT, vmin=low, vmax=high, alpha=opacity, linewidths=0)
