"""Draws docs/pictures/frames.png with the package's own geometry: python docs/pictures/frames.py"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.geometry.poses import transform_points, x1_to_x2, x_to_world

EGO = [4.0, 2.0, 0.0, 0.0, 30.0, 0.0]  # x, y, z, roll, yaw, pitch
COLLABORATOR = [19.0, 4.0, 0.0, 0.0, 110.0, 0.0]
OBJECT = np.array([[9.0, 4.0, 0.0, 1.6, 1.8, 4.2, np.deg2rad(20.0)]])  # x, y, z, h, w, l, yaw in the ego frame


def main() -> None:
    """Draw the world frame with two agents, a box with its corner numbers, and the BEV map of the ego."""
    figure, (world, box, grid) = plt.subplots(1, 3, figsize=(15, 5.2))
    draw_world(world)
    draw_box(box)
    draw_grid(grid)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("frames.png"), dpi=110)


def draw_world(axes: Axes) -> None:
    """World frame: x forward, y to its right when seen from above, both agents' own axes, one transform."""
    axes.set_title("World (left-handed: y is right of x)\npose = [x, y, z, roll, yaw, pitch], metres, degrees")
    arrows(axes, np.eye(4), "world", "black")
    arrows(axes, x_to_world(EGO), "ego", "tab:blue")
    arrows(axes, x_to_world(COLLABORATOR), "agent 1", "tab:orange")
    corners = transform_points(boxes_to_corners_3d(OBJECT, "hwl")[0, :4].astype(float), x_to_world(EGO))
    axes.fill(corners[:, 0], corners[:, 1], color="tab:green", alpha=0.5)
    start, end = np.array(COLLABORATOR[:2]), np.array(EGO[:2])
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linestyle": "--", "color": "gray"})
    axes.text(*(0.5 * (start + end) + [0.4, 1.6]), "x1_to_x2(agent 1, ego)", color="gray")
    relative = x1_to_x2(COLLABORATOR, EGO)
    axes.text(
        0.02,
        0.02,
        f"agent 1 sits at ({relative[0, 3]:.1f}, {relative[1, 3]:.1f}) m of the ego",
        transform=axes.transAxes,
    )
    axes.set(xlim=(-2, 24), ylim=(20, -3), aspect="equal", xlabel="x (m)", ylabel="y (m), drawn downwards")


def draw_box(axes: Axes) -> None:
    """One box with its corner numbers and yaw, in the frame of the ego."""
    axes.set_title("Box in the ego frame: (x, y, z, h, w, l, yaw)\ncorners 0-3 at the bottom, 4-7 above them")
    corners = boxes_to_corners_3d(OBJECT, "hwl")[0]
    axes.fill(corners[:4, 0], corners[:4, 1], color="tab:green", alpha=0.3)
    for number in range(4):
        axes.text(
            corners[number, 0], corners[number, 1], f"{number} ({number + 4})", ha="center", va="center", weight="bold"
        )
    centre, yaw = OBJECT[0, :2], OBJECT[0, 6]
    tip = centre + 2.1 * np.array([np.cos(yaw), np.sin(yaw)])
    axes.annotate("", tip, centre, arrowprops={"arrowstyle": "->", "color": "black"})
    axes.plot([centre[0], centre[0] + 3.0], [centre[1]] * 2, ":", color="black")
    axes.text(centre[0] + 1.3, centre[1] + 0.2, "yaw (x to y)")
    axes.set(xlim=(5.5, 12.5), ylim=(6.8, 1.2), aspect="equal", xlabel="x, forward (m)", ylabel="y, right (m)")


def draw_grid(axes: Axes) -> None:
    """The BEV map: row 0 at y minimum, column 0 at x minimum."""
    axes.set_title("BEV map (C, H, W) of range [-8, -4, ., 8, 4, .], cell 1 m\nrows follow y, columns follow x")
    axes.pcolormesh(np.arange(-8, 9), np.arange(-4, 5), np.zeros((8, 16)), edgecolors="lightgray", cmap="Greys")
    for row, column, text in ((0, 0, "[0, 0]"), (0, 15, "[0, W-1]"), (7, 0, "[H-1, 0]"), (4, 8, "ego")):
        axes.text(column - 7.5, row - 3.5, text, ha="center", va="center", fontsize=8)
    arrows(axes, np.eye(4), "", "tab:blue", length=2.0)
    axes.set(aspect="equal", xlabel="x (m) = column", ylabel="y (m) = row")
    axes.invert_yaxis()


def arrows(axes: Axes, transform: np.ndarray, name: str, colour: str, length: float = 3.0) -> None:
    """Draw the x and y axes of a frame."""
    origin = transform[:2, 3]
    for column, label in ((0, "x"), (1, "y")):
        tip = origin + length * transform[:2, column]
        axes.annotate("", tip, origin, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
        axes.text(*tip, label, color=colour)
    axes.text(*(origin - 0.6), name, color=colour, ha="right")


if __name__ == "__main__":
    main()
