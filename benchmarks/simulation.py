"""LiDAR sweeps and photographs of a simulated town, beside a plain loop that tests every ray against every box."""

from __future__ import annotations

import numpy as np
from _timing import Row, median_seconds

from opencood.geometry.poses import x_to_world
from opencood.simulation.boxes import Boxes
from opencood.simulation.camera.appearance import draw_appearance
from opencood.simulation.camera.model import CAR_MOUNTS, CameraModel, camera_poses
from opencood.simulation.camera.photograph import Photographer, look
from opencood.simulation.lidar import LidarModel, sweep
from opencood.simulation.ray_plain import cast_plain, first_met
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
    rows += _photographs(traffic, boxes, np.array([*origin, heading]))
    step = median_seconds(traffic.step, runs=50)
    rows.append({"name": "traffic step", "value": step * 1e3, "unit": "ms", "baseline": None, "ratio": None})
    return rows


def _photographs(traffic: Traffic, boxes: Boxes, lidar_pose: np.ndarray) -> list[Row]:
    """Megapixels per second of the geometry alone, beside the plain loop, and of whole pictures with their depth."""
    rng, model = np.random.default_rng(1), CameraModel()
    appearance = draw_appearance(traffic.world.roads, traffic.world.town, traffic.bodies, rng)
    photographer = Photographer(appearance, boxes, traffic.poses)
    poses = camera_poses(lidar_pose, CAR_MOUNTS)
    pixels = len(poses) * model.width * model.height / 1e6

    def traced() -> None:
        for pose in poses:
            look(model, pose, boxes, 0)

    def whole() -> None:
        for pose in poses:
            photographer.picture(model, pose, look(model, pose, boxes, 0), rng)

    fast, pictures = median_seconds(traced), median_seconds(whole)
    plain = len(poses) * median_seconds(lambda: _plain_depth(model, boxes.geometry, poses[0]), runs=1, warm_up=0)
    name = f"4 cameras {model.width} x {model.height}, {len(boxes)} boxes"
    return [
        {
            "name": f"depth, {name}",
            "value": pixels / fast,
            "unit": "megapixels/s",
            "baseline": pixels / plain,
            "ratio": plain / fast,
        },
        {
            "name": f"picture and depth, {name}",
            "value": pixels / pictures,
            "unit": "megapixels/s",
            "baseline": None,
            "ratio": None,
        },
    ]


def _plain_depth(model: CameraModel, boxes: np.ndarray, pose: np.ndarray) -> None:
    """The depth of one picture, in blocks of rows that fit into memory."""
    u = np.arange(model.width) + 0.5 - model.width / 2
    for rows in np.array_split(np.arange(model.height) + 0.5 - model.height / 2, 10):
        right, down = np.meshgrid(u / model.focal, rows / model.focal)
        rays = np.stack([np.ones_like(right), right, -down], axis=-1) @ x_to_world(pose)[:3, :3].T
        first_met(boxes, pose[:3], rays, np.inf)


def _plain_sweep(model: LidarModel, boxes: np.ndarray, origin: np.ndarray) -> None:
    """Only the ray casting of a sweep, in blocks of columns that fit into memory."""
    for azimuths in np.array_split(np.arange(model.azimuths) * 2 * np.pi / model.azimuths, 10):
        cast_plain(boxes, origin, azimuths, model.slopes, model.max_range)
