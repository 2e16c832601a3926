"""Draws docs/pictures/gencomm.png; sizes come from the shipped files: python docs/pictures/gencomm.py"""

from __future__ import annotations

from pathlib import Path

from flow import HEIGHT, WIDTH, WIRE, arrow, box, chain, note
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from opencood.experiments.gencomm_costs import costs
from opencood.visualization import style
from opencood.visualization.bev import save_figure

KIB = 1024


def main() -> None:
    """Draw the ego above, an agent of another type below, and what is trained when it joins."""
    figure = Figure(figsize=(12, 4.2), facecolor=style.BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 12), ylim=(0.55, 4.75))
    axes.axis("off")
    found = costs()
    title = "GenComm: a small message, and a generator that knows what the ego's features look like"
    axes.text(0.3, 4.45, title, color=style.TEXT, fontsize=15, weight="bold")
    note(axes, 0.3, 4.1, "blue: trained when m3 joins (stage 2); grey: frozen")

    note(axes, 0.3, 3.66, "the ego (m1)")
    chain(axes, 2.9, [("encoder, backbone,\nneck of m1", False)])
    note(axes, 0.3, 1.96, "an agent of another type (m3)")
    chain(axes, 1.2, [("encoder, backbone,\nneck of m3", False), ("message extractor\nof m3", True)])
    note(axes, 2.4, 0.82, f"{found['gencomm'].parameters:,} parameters, {percent(found)} fewer than STAMP's adapters")

    box(axes, 5.9, 2.05, "generator\n3 denoising steps", False)
    arrow(axes, (0.3 + WIDTH, 2.9 + HEIGHT / 2), (5.9, 2.05 + HEIGHT * 0.75), style.TEXT)
    note(axes, 2.6, 3.35, "starts from the ego's feature")
    arrow(axes, (2.4 + WIDTH, 1.2 + HEIGHT / 2), (5.9, 2.05 + HEIGHT * 0.25), WIRE)
    sent, dense = found["gencomm"].message // KIB, found["stamp"].message // KIB**2
    note(axes, 4.3, 1.36, f"2 channels: {sent} KiB instead of {dense} MiB", WIRE)
    box(axes, 8.0, 2.05, "enhancer", False)
    box(axes, 10.1, 2.05, "fusion, heads\nof m1", False)
    for left in (5.9, 8.0):
        arrow(axes, (left + WIDTH, 2.05 + HEIGHT / 2), (left + 2.1, 2.05 + HEIGHT / 2), style.TEXT)
    note(axes, 5.9, 2.92, "features as m1 would have made them,\none for every agent")
    save_figure(figure, Path(__file__).with_name("gencomm.png"))


def percent(found: dict) -> str:
    """How many parameters fewer GenComm trains."""
    return f"{(1 - found['gencomm'].parameters / found['stamp'].parameters) * 100:.1f} %"


if __name__ == "__main__":
    main()
