"""The ways of agents and objects through a scenario, from above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from opencood.visualization import style
from opencood.visualization.bev import save_figure

Way = NDArray[np.float64]  # (T, 2) metres


def draw_paths(
    agents: Mapping[str, Way], objects: Sequence[Way], path: str | Path, title: str = "", left_hand: bool = False
) -> Path:
    """Ways of objects as thin lines, those of agents in colours, each with its name where it begins.

    Args:
        left_hand: y points down in the picture.
    """
    figure = Figure(figsize=(8, 8), facecolor=style.BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor(style.PANEL)
    axes.add_collection(LineCollection(list(objects), colors=style.MUTED, lw=0.8, alpha=0.7))
    starts = np.array([way[0] for way in objects]).reshape(-1, 2)
    axes.scatter(starts[:, 0], starts[:, 1], s=5, color=style.MUTED)
    for position, (name, way) in enumerate(agents.items()):
        color, _ = style.curve(position)
        axes.plot(way[:, 0], way[:, 1], color=color, lw=2.2, marker=".", ms=4, label=name)
        axes.annotate(name, (way[0, 0], way[0, 1]), xytext=(6, 6), textcoords="offset points", color=color, fontsize=9)
    axes.autoscale_view()
    axes.set_aspect("equal", adjustable="datalim")
    if left_hand:
        axes.invert_yaxis()
    axes.tick_params(colors=style.MUTED)
    axes.set_title(title, color=style.TEXT, fontsize=12, weight="bold", loc="left")
    axes.set_xlabel("x in the world, m", color=style.TEXT)
    axes.set_ylabel("y in the world, m", color=style.TEXT)
    return save_figure(figure, path)
