"""Bird's-eye pictures of detections against ground truth; no display needed, and no prediction either."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from opencood.errors import StorageError
from opencood.visualization import style
from opencood.visualization.legend import draw_legend
from opencood.visualization.scene import AgentMark, BevScene

_DPI = 100
_PIXELS_PER_METRE = 10.0
_MAX_SIDE = 2000
_MIN_SIDE = 1300
_COMPARISON_SIDE = 900
_HALO = [withStroke(linewidth=2.2, foreground=style.HALO)]


def draw_bev(scene: BevScene, path: str | Path) -> Path:
    """Draw one frame and save it as PNG.

    Raises:
        StorageError: the file cannot be written.
    """
    width, height = _panel_size(scene)
    figure = make_figure(width + 0.9, height + 1.5)
    total = (width + 0.9, height + 1.5)
    axes = figure.add_axes((0.6 / total[0], 0.85 / total[1], width / total[0], height / total[1]))
    draw_scene(axes, scene)
    _headline(axes, scene)
    draw_legend(figure, [scene])
    return save_figure(figure, path)


def draw_comparison(scenes: Sequence[BevScene], path: str | Path, title: str = "") -> Path:
    """Draw the same frame as several methods see it: one panel each, stacked if they are wide, else side by side."""
    width, height = _panel_size(scenes[0], _COMPARISON_SIDE, _COMPARISON_SIDE)
    rows, columns = (len(scenes), 1) if width > 1.3 * height else (1, len(scenes))
    figure = make_figure(columns * (width + 0.8) + 0.2, rows * (height + 0.85) + 0.7 + (0.45 if title else 0))
    size_x, size_y = figure.get_size_inches()
    for index, scene in enumerate(scenes):
        row, column = divmod(index, columns)
        left = 0.6 + column * (width + 0.8)
        bottom = 0.85 + (rows - 1 - row) * (height + 0.85)
        axes = figure.add_axes((left / size_x, bottom / size_y, width / size_x, height / size_y))
        draw_scene(axes, scene)
        _headline(axes, scene)
    if title:
        figure.text(
            0.5, 1 - 0.28 / size_y, title, color=style.TEXT, fontsize=16, weight="bold", ha="center", va="center"
        )
    draw_legend(figure, scenes)
    return save_figure(figure, path)


def draw_scene(axes: Axes, scene: BevScene) -> None:
    """Draw a scene into existing axes: rings, points, ground truth, predictions, agents."""
    x0, y0, x1, y1 = scene.extent
    axes.set_xlim(x0, x1)
    axes.set_ylim(*((y1, y0) if scene.left_hand else (y0, y1)))
    axes.set_aspect("equal")
    axes.set_facecolor(style.PANEL)
    axes.tick_params(colors=style.MUTED, labelsize=8, length=3)
    for spine in axes.spines.values():
        spine.set_color(style.GRID)
    _rings(axes, scene)
    _points(axes, scene)
    _ground_truth(axes, scene)
    _predictions(axes, scene)
    for mark in scene.agents:
        _agent(axes, mark, scene)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Render off-screen and write the file in one step."""
    rendered = io.BytesIO()
    figure.savefig(rendered, format="png", dpi=_DPI, facecolor=figure.get_facecolor())
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(rendered.getvalue())
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StorageError(
            f"{target}: the picture cannot be written ({reason}). Free some space, or draw fewer (--save_vis_interval)."
        ) from error
    return target


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a display."""
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=style.BACKGROUND)
    FigureCanvasAgg(figure)
    return figure


def _panel_size(scene: BevScene, at_least: int = _MIN_SIDE, at_most: int = _MAX_SIDE) -> tuple[float, float]:
    """Panel width and height in inches: ten pixels a metre, unless the longer side leaves the limits (pixels)."""
    x0, y0, x1, y1 = scene.extent
    longest = max(x1 - x0, y1 - y0)
    scale = min(max(_PIXELS_PER_METRE, at_least / longest), at_most / longest) / _DPI
    return (x1 - x0) * scale, (y1 - y0) * scale


def _rings(axes: Axes, scene: BevScene) -> None:
    x0, y0, x1, y1 = scene.extent
    reach = max(abs(x0), abs(x1), abs(y0), abs(y1))
    step = 10 if reach <= 45 else 20 if reach <= 120 else 50
    up = -1.0 if scene.left_hand else 1.0
    for radius in range(step, int(math.hypot(reach, reach)) + step, step):
        axes.add_patch(Circle((0, 0), radius, fill=False, color=style.RING, lw=0.9, zorder=1))
        inside_y = min(abs(y0), abs(y1)) - 1.5
        angle = math.radians(38) if radius * math.sin(math.radians(38)) < inside_y else math.asin(inside_y / radius)
        x, y = -radius * math.cos(angle), up * radius * math.sin(angle)
        if x > x0 + 1:
            axes.text(x, y, f"{radius} m", color=style.MUTED, fontsize=7.5, ha="center", va="center", zorder=2,
                      path_effects=_HALO, clip_on=True)  # fmt: skip
    axes.add_collection(LineCollection([[(x0, 0), (x1, 0)], [(0, y0), (0, y1)]], colors=style.GRID, lw=0.6, zorder=1))


def _points(axes: Axes, scene: BevScene) -> None:
    points = np.asarray(scene.points, np.float32)
    if not len(points):
        return
    x0, y0, x1, y1 = scene.extent
    inside = (points[:, 0] >= x0) & (points[:, 0] <= x1) & (points[:, 1] >= y0) & (points[:, 1] <= y1)
    shown = points[inside]
    if scene.point_agents is not None:
        palette = np.array([style.rgb(color) for color in style.AGENT_POINTS])
        colors = palette[np.asarray(scene.point_agents)[inside] % len(palette)]
    else:
        low, high = style.HEIGHT_RANGE
        colors = style.HEIGHT((shown[:, 2] - low) / (high - low))
    upwards = np.argsort(shown[:, 2], kind="stable")
    axes.scatter(shown[upwards, 0], shown[upwards, 1], s=1.6, c=colors[upwards], lw=0, alpha=0.85, zorder=3)


def _ground_truth(axes: Axes, scene: BevScene) -> None:
    if not len(scene.ground_truth):
        return
    found = scene.found()
    outlines = scene.ground_truth[:, :4, :2]
    colors = np.where(found[:, None], style.rgb(style.GROUND_TRUTH), style.rgb(style.MISSED))
    axes.add_collection(
        PolyCollection(
            list(outlines), facecolors=np.c_[colors, np.full(len(colors), 0.16)], edgecolors=colors, lw=1.8, zorder=5
        )
    )
    centers = outlines.mean(axis=1)
    below = outlines[..., 1].max(axis=1) if scene.left_hand else outlines[..., 1].min(axis=1)
    for x, y, hit in zip(centers[:, 0], below, found, strict=True):
        label, color = ("gt", style.GROUND_TRUTH) if hit else ("missed", style.MISSED)
        _label(axes, x, y, label, color, lift=-7)


def _predictions(axes: Axes, scene: BevScene) -> None:
    if not len(scene.predictions):
        return
    outlines = scene.predictions[:, :4, :2]
    front, centers = outlines[:, :2].mean(axis=1), outlines.mean(axis=1)
    nose = front + 0.35 * (front - centers)
    axes.add_collection(
        PolyCollection(list(outlines), facecolors="none", edgecolors=style.PREDICTION, lw=1.7, zorder=6)
    )
    axes.add_collection(
        LineCollection(
            list(np.stack([centers, nose], axis=1)), colors=style.PREDICTION, lw=1.7, zorder=6, capstyle="round"
        )
    )
    if scene.scores is None:
        return
    above = outlines[..., 1].min(axis=1) if scene.left_hand else outlines[..., 1].max(axis=1)
    for x, y, score in zip(centers[:, 0], above, scene.scores, strict=True):
        _label(axes, x, y, f"{score:.2f}", style.PREDICTION_TEXT, lift=7)


def _agent(axes: Axes, mark: AgentMark, scene: BevScene) -> None:
    """A triangle that points where the agent drives, with its name."""
    x0, y0, x1, y1 = scene.extent
    if not (x0 <= mark.x <= x1 and y0 <= mark.y <= y1):
        return
    shape = np.array([[2.2, 0], [-1.3, 1.25], [-0.6, 0], [-1.3, -1.25]])
    cos, sin = math.cos(mark.yaw), math.sin(mark.yaw)
    outline = shape @ np.array([[cos, sin], [-sin, cos]]) + (mark.x, mark.y)
    color = style.modality_color(mark.modality)
    axes.add_collection(PolyCollection([outline], facecolors=[color], edgecolors="white", lw=1.3, zorder=8))
    name = " · ".join(part for part in (mark.name, mark.modality) if part)
    axes.annotate(
        name, (mark.x, mark.y), xytext=(11, 11), textcoords="offset points", color="white", fontsize=9, weight="bold",
        zorder=9, annotation_clip=True,
        bbox={"boxstyle": "round,pad=0.25", "facecolor": (*color, 0.55), "edgecolor": "none"}, path_effects=_HALO,
    )  # fmt: skip


def _label(axes: Axes, x: float, y: float, text: str, color: str, lift: float) -> None:
    axes.annotate(
        text, (x, y), xytext=(0, lift), textcoords="offset points", color=color, fontsize=8, ha="center", va="center",
        zorder=7, annotation_clip=True, path_effects=_HALO,
    )  # fmt: skip


def _headline(axes: Axes, scene: BevScene) -> None:
    found, total = int(scene.found().sum()), len(scene.ground_truth)
    counts = f"{found} of {total} objects found (IoU ≥ 0.5), {len(scene.predictions)} detections"
    if not scene.judged:
        counts = f"{total} objects"
    axes.set_title(scene.title, loc="left", color=style.TEXT, fontsize=12, weight="bold", pad=8)
    axes.set_title(
        "   ".join(filter(None, (scene.subtitle, counts))), loc="right", color=style.MUTED, fontsize=9.5, pad=8
    )
