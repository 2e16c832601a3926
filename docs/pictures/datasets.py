"""Draws docs/pictures/dataset_<format>.png from simulated data: python docs/pictures/datasets.py [FORMAT ...]

Without --root every format is simulated first (a minute or two); --root ROOT draws data that are there already.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection

from opencood.data.draws import Draws
from opencood.data.frame import Frame
from opencood.data.readers.base import ReaderSettings
from opencood.experiments.dataset_check.places import Split, find_splits
from opencood.experiments.participants import clouds_in_ego
from opencood.experiments.pictures import agent_marks
from opencood.experiments.simulate import SimulationOptions, simulate
from opencood.geometry.poses import transform_points, x_to_world
from opencood.registry import REGISTRY
from opencood.visualization import style

NAMES = {
    "opv2v": "OPV2V", "v2xset": "V2XSet", "v2xsim": "V2X-Sim 2.0", "dairv2x": "DAIR-V2X-C", "v2xreal": "V2X-Real",
    "v2v4real": "V2V4Real",
}  # fmt: skip
LEFT_HANDED = ("opv2v", "v2xset")
EXTENT = (-60.0, -40.0, 60.0, 40.0)  # metres around the ego


def main() -> None:
    """Draw one picture a format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--root", type=Path, help="folder with a data set in a folder named after each format")
    parser.add_argument("--preset", default="small")
    options = parser.parse_args()
    for name in options.formats or NAMES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = options.root / name if options.root else simulated(name, Path(scratch), options.preset)
            draw(name, first_frame(find_splits(folder, name)[0]))


def simulated(name: str, scratch: Path, preset: str) -> Path:
    """One scenario of a format."""
    roadside = name not in ("opv2v", "v2v4real", "v2xsim")
    out = scratch / name
    simulate(SimulationOptions(out, preset, scenarios=(1, 0, 0), frames=2, format=name, rsu=roadside, seed=7))
    return out


def first_frame(split: Split) -> Frame:
    """The first frame of a split in the order of testing."""
    reader = REGISTRY.get("reader", split.format).target(ReaderSettings(split.root, "root_dir", False, 5))
    reader.replan(Draws.keyed(0))
    return reader.frame(0)


def draw(name: str, frame: Frame) -> None:
    """Points by agent, and every object that some agent lists, in the frame of the ego."""
    agents = list(frame.agents)
    points, owners = clouds_in_ego(agents)
    corners = np.concatenate([agent.objects.corners for agent in agents])
    ids = np.concatenate([agent.objects.ids for agent in agents])
    corners = corners[np.unique(ids, return_index=True)[1]]
    boxes = transform_points(corners, np.linalg.inv(x_to_world(frame.ego.lidar_pose)))[:, :4, :2]
    roadside = sum(agent.roadside for agent in agents)
    figure, axes = plt.subplots(figsize=(10, 7), facecolor=style.BACKGROUND)
    axes.set_facecolor(style.PANEL)
    colours = np.array(style.AGENT_POINTS)[owners % len(style.AGENT_POINTS)]
    axes.scatter(points[:, 0], points[:, 1], s=0.6, c=colours, linewidths=0)
    axes.add_collection(PolyCollection(boxes, facecolors="none", edgecolors=style.GROUND_TRUTH, linewidths=1.4))
    for mark in agent_marks(agents):
        axes.plot(mark.x, mark.y, marker=(3, 0, np.degrees(mark.yaw) * axes_sign(name) - 90), ms=12, color=style.TEXT)
        axes.annotate(mark.name, (mark.x, mark.y), (6, 8), textcoords="offset points", color=style.TEXT)
    (x0, y0, x1, y1), flipped = EXTENT, name in LEFT_HANDED
    axes.set(xlim=(x0, x1), ylim=(y1, y0) if flipped else (y0, y1), aspect="equal")
    axes.set_xlabel("x, forward (m)", color=style.MUTED)
    axes.set_ylabel(f"y, {'right' if flipped else 'left'} (m)", color=style.MUTED)
    axes.tick_params(colors=style.MUTED)
    content = f"{len(agents)} agents ({roadside} roadside), {len(corners)} listed objects, {len(points)} points"
    axes.set_title(f"{NAMES[name]}, a simulated frame: {content}", color=style.TEXT, fontsize=11)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name(f"dataset_{name}.png"), dpi=90)
    plt.close(figure)


def axes_sign(name: str) -> int:
    """-1 where y points down in the picture, so that angles turn the other way."""
    return -1 if name in LEFT_HANDED else 1


if __name__ == "__main__":
    main()
