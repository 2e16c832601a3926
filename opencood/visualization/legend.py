"""What the colours and marks of a bird's-eye picture mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from opencood.visualization import style
from opencood.visualization.scene import BevScene


def draw_legend(figure: Figure, scenes: Sequence[BevScene]) -> None:
    """One line (or more, where it does not fit) below the pictures; scenes side by side show the same agents."""

    def box(color: str, fill: bool, label: str) -> Patch:
        face = (*style.rgb(color), 0.16) if fill else "none"
        return Patch(facecolor=face, edgecolor=color, lw=1.8, label=label)

    entries: list[Patch | Line2D] = [
        box(style.GROUND_TRUTH, True, "ground truth, found"),
        box(style.MISSED, True, "ground truth, missed"),
        box(style.PREDICTION, False, "detection, score, heading"),
    ]
    modalities = sorted({mark.modality for scene in scenes for mark in scene.agents})
    for modality in modalities:
        name = f"agent {modality}".strip()
        color = style.modality_color(modality)
        entries.append(Line2D([], [], marker=">", ls="", ms=9, mfc=color, mec="white", label=name))
    entries += _point_entries(scenes)
    columns = min(len(entries), int(figure.get_figwidth() / 1.7))
    figure.legend(
        handles=entries, loc="lower center", ncols=columns, frameon=False, fontsize=9, labelcolor=style.TEXT,
        handletextpad=0.5, columnspacing=1.6, borderaxespad=0.4,
    )  # fmt: skip


def _point_entries(scenes: Sequence[BevScene]) -> list[Line2D]:
    def dot(color: object, label: str) -> Line2D:
        return Line2D([], [], marker="o", ls="", ms=5, mfc=color, mec="none", label=label)

    owners = [scene.point_agents for scene in scenes if scene.point_agents is not None]
    if not owners:
        return [dot(style.HEIGHT(0.1), "points, low"), dot(style.HEIGHT(1.0), "points, high")]
    shown = np.unique(np.concatenate(owners)).tolist()
    names = {index: mark.name for index, mark in enumerate(scenes[0].agents)}
    palette = style.AGENT_POINTS
    return [dot(palette[index % len(palette)], f"points of {names.get(index, index)}") for index in shown]
