"""LiDAR sweeps of a simulated town, beside a plain NumPy loop over boxes that tests every ray against every box."""

from __future__ import annotations

import numpy as np
from _timing import Row, median_seconds

from opencood.simulation.lidar import LidarModel, sweep
from opencood.simulation.ray_plain import cast_plain
from opencood.simulation.traffic import Traffic
from opencood.simulation.world import draw_world


def run() -> list[Row]:
    """Rows for ``benchmarks/run.py``."""
    rng = np.random.default_rng(0)
    traffic = Traffic(draw_world(rng), vehicles=20, pedestrians=8, rng=rng)
    boxes = traffic.world.town + traffic.boxes()
    x, y, heading = traffic.poses[0]
    origin = np.array([x, y, 1.9])
    rows = []
    for beams in (16, 32, 64):
        model = LidarModel(beams=beams, azimuths=1800)
        fast = median_seconds(lambda: sweep(model, boxes, 0, origin, heading, rng))  # noqa: B023 - called at once
        plain = median_seconds(lambda: _plain_sweep(model, boxes.geometry, origin), runs=1, warm_up=0)  # noqa: B023
        name = f"LiDAR {beams} x 1800, {len(boxes)} boxes"
        rows.append({"name": name, "value": 1 / fast, "unit": "sweeps/s", "baseline": 1 / plain, "ratio": plain / fast})
    step = median_seconds(traffic.step, runs=50)
    rows.append({"name": "traffic step", "value": step * 1e3, "unit": "ms", "baseline": None, "ratio": None})
    return rows


def _plain_sweep(model: LidarModel, boxes: np.ndarray, origin: np.ndarray) -> None:
    """Only the ray casting of a sweep, in blocks of columns that fit into memory."""
    for azimuths in np.array_split(np.arange(model.azimuths) * 2 * np.pi / model.azimuths, 10):
        cast_plain(boxes, origin, azimuths, model.slopes, model.max_range)
