"""Boxes and arrows of the pictures that show what flows through a detector."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from opencood.visualization import style

FROZEN, TRAINED, WIRE = style.PANEL, "#1d3b5c", "#c58cff"
WIDTH, HEIGHT = 1.55, 0.62


def chain(axes: Axes, height: float, parts: list[tuple[str, bool]]) -> None:
    """Boxes from left to right with arrows between them."""
    left = 0.3
    for number, (name, trained) in enumerate(parts):
        box(axes, left, height, name, trained)
        if number:
            arrow(axes, (left - 0.55, height + HEIGHT / 2), (left, height + HEIGHT / 2), style.TEXT)
        left += WIDTH + 0.55


def box(axes: Axes, left: float, bottom: float, name: str, trained: bool) -> None:
    """One part of a detector."""
    colour = TRAINED if trained else FROZEN
    axes.add_patch(
        FancyBboxPatch((left, bottom), WIDTH, HEIGHT, "round,pad=0,rounding_size=0.08", fc=colour, ec=style.RING)
    )
    axes.text(left + WIDTH / 2, bottom + HEIGHT / 2, name, color=style.TEXT, ha="center", va="center", fontsize=9.5)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """From one part to the next."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6})


def note(axes: Axes, x: float, y: float, text: str, colour: str = style.MUTED) -> None:
    """A remark."""
    axes.text(x, y, text, color=colour, fontsize=9.5, va="center")
