"""Draws docs/pictures/codealign.png; sizes come from the shipped configurations: python docs/pictures/codealign.py"""

from __future__ import annotations

from pathlib import Path

from flow import HEIGHT, WIDTH, WIRE, arrow, box, chain, note
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from opencood.config.flavor import SHIPPED
from opencood.config.loader import load_file
from opencood.experiments.codealign_costs import aligner, codebook, translator
from opencood.experiments.describe import payload_bits, sent_messages
from opencood.visualization import style
from opencood.visualization.bev import save_figure

BITS_PER_KIB = 8 * 1024
WORDS = 16


def main() -> None:
    """Draw a receiver's group above, a sender of another group below, and what is trained when."""
    figure = Figure(figsize=(12, 4.4), facecolor=style.BACKGROUND)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 12), ylim=(0.5, 4.9))
    axes.axis("off")
    kib, dense = message_kib(WORDS), message_kib(None)
    learns, translates = (aligner() + codebook()).all, translator().all
    axes.text(0.3, 4.62, "CodeAlign: words of the receiver's code space", color=style.TEXT, fontsize=15, weight="bold")
    note(axes, 0.3, 4.28, "blue: trained in the stage below; grey: frozen meanwhile")

    note(axes, 0.3, 3.86, "group of the ego (m1)")
    chain(axes, 3.1, [("encoder, backbone", False), ("aligner", True), ("codebook\nnearest word", True)])
    note(axes, 2.55, 2.72, f"stage 1: aligner and codebook, {learns:,} parameters")
    note(axes, 0.3, 1.96, "another group (m6), never seen together with m1")
    chain(axes, 1.2, [("encoder, backbone", False), ("aligner", False), ("translator\ninto words of m1", True)])
    note(axes, 2.55, 0.82, f"stage 2: one translator per direction, {translates:,} parameters")

    ego = (8.0, 2.15)
    box(axes, *ego, "codebook of m1\ndecodes", False)
    for start in (3.1, 1.2):
        arrow(axes, (6.05, start + HEIGHT / 2), (8.0, ego[1] + HEIGHT / 2), WIRE)
    note(axes, 6.9, 3.4, f"a word of 4 bits per cell:\n{kib} KiB instead of {dense // 1024} MiB", WIRE)
    box(axes, 10.0, 2.15, "fusion, heads\nof m1", False)
    arrow(axes, (8.0 + WIDTH, ego[1] + HEIGHT / 2), (10.0, ego[1] + HEIGHT / 2), style.TEXT)
    note(axes, 8.0, 1.62, "the receiver's backend is that of its own group:\nnothing of it changes when others join")
    save_figure(figure, Path(__file__).with_name("codealign.png"))


def message_kib(words: int | None) -> int:
    """Size of a message of the shipped stage 1 with so many words, or of maps."""
    hypes = load_file(SHIPPED / "opv2v/Heter_group/codebook/codebook_pyramid_fixenc_aligner.yaml")
    args = {**hypes["model"]["args"], "codebook": words and {"seg_num": 1, "dict_size": words, "r": 1}}
    message = sent_messages(hypes.replaced({**hypes, "model": {**hypes["model"], "args": args}}), ["m1"])["m1"]
    return payload_bits(message) // BITS_PER_KIB


if __name__ == "__main__":
    main()
