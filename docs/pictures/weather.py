"""Draws docs/pictures/weather.png, one simulated sweep in clear air, fog and snow: python docs/pictures/weather.py"""

import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from opencood.data.pcd import read_points
from opencood.data.perturb.fog import Fog
from opencood.data.perturb.snow import Snow
from opencood.experiments.simulate import SimulationOptions, simulate

FOG, SNOW = Fog(visibility=50.0), Snow(rate=2.5)
REACH, CLOSE = 60.0, 12.0  # metres shown around the sensor, and in the inset


def main() -> None:
    """Simulate one sweep of 64 beams and draw it three times from above."""
    points = sweep()
    nothing = np.zeros(len(points), bool)
    panels = (
        ("clear", points, nothing),
        (f"fog, visibility {FOG.visibility:g} m", *FOG.returns(points)),
        (f"snow, {SNOW.rate:g} mm/h", *SNOW.returns(points, np.random.default_rng(0))),
    )
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.4))
    for panel, (title, seen, by_weather) in zip(axes, panels, strict=True):
        draw(panel, title, seen, by_weather)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("weather.png"), dpi=110)


def sweep() -> np.ndarray:
    """(N, 4) points of one simulated agent."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        simulate(SimulationOptions(out=root, preset="mini", scenarios=(1, 1, 1), frames=1, beams=64, seed=2))
        return read_points(min((root / "test").glob("*/*/*.pcd")))


def draw(axes: Axes, title: str, points: np.ndarray, by_weather: np.ndarray) -> None:
    """Points from above, the brighter the more intensity; returns of fog or snow in red, their surroundings inset."""
    share = by_weather.mean()
    axes.set_title(title + (f": {100 * share:.0f} % of the returns are its own" if share else ""))
    inset = axes.inset_axes((0.66, 0.66, 0.33, 0.33))
    for place, reach in ((axes, REACH), (inset, CLOSE)):
        target, weather = points[~by_weather], points[by_weather]
        place.scatter(
            *target[:, :2].T, c=target[:, 3], s=1.2, cmap="viridis", norm=PowerNorm(0.35, 0, 0.6), linewidths=0
        )
        place.scatter(*weather[:, :2].T, color="tab:red", s=1.5, linewidths=0)
        place.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal", facecolor="black")
    inset.set(xticks=[], yticks=[])
    for spine in inset.spines.values():
        spine.set_color("white")
    axes.set(xlabel="x, forward (m)", ylabel="y, right (m)")


if __name__ == "__main__":
    main()
