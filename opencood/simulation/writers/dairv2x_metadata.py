"""Calibration and labels of DAIR-V2X-C (``spec/data.md`` section 2.5); poses, points and objects are right-handed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.geometry.poses import transform_points
from opencood.simulation.recording import AgentView, Objects
from opencood.simulation.writers.metadata import to_world, type_of
from opencood.simulation.writers.right_handed import world_to_camera

_VIRTUAL_HEIGHT = 1.9  # metres above the ground, that of the cars' LiDAR
_LARGEST_ERROR = 0.8  # metres by which the calibration of the roadside unit is off, and told to be
# The vehicle's LiDAR is mounted turned by a quarter against its positioning unit ("novatel").
_LIDAR_TO_NOVATEL = np.array([[0, -1, 0, 0.1], [1, 0, 0, 0.5], [0, 0, 1, -0.35], [0, 0, 0, 1]], np.float64)
_HALF_FIELD = np.radians(45)  # of the camera that labels the front where no picture was simulated


def json_bytes(content: Any) -> bytes:
    """A JSON file."""
    return json.dumps(content).encode()


def system_error(seed: Sequence[int], number: int) -> dict[str, float]:
    """How far the roadside unit's calibration of a frame is off in the world, metres."""
    error = np.random.default_rng([*seed, number]).uniform(-_LARGEST_ERROR, _LARGEST_ERROR, 2).round(4)
    return dict(zip(("delta_x", "delta_y"), error.tolist(), strict=True))


def with_virtual_lidar(unit: AgentView) -> AgentView:
    """A roadside unit as if its LiDAR stood low on the pole."""
    drop = unit.sensor_pose[2] - _VIRTUAL_HEIGHT
    pose = unit.sensor_pose - [0, 0, drop, 0]
    return replace(unit, sensor_pose=pose, points=unit.points + np.array([0, 0, drop, 0], np.float32))


def calibrations(view: AgentView, error: Mapping[str, float] | None) -> dict[str, dict[str, Any]]:
    """Content of the calibration files by folder; the error (roadside units only) is what readers add again."""
    lidar_to_world = to_world(view.sensor_pose)
    if error is None:
        files = {
            "lidar_to_novatel": {"transform": _transform(_LIDAR_TO_NOVATEL)},
            "novatel_to_world": _transform(lidar_to_world @ np.linalg.inv(_LIDAR_TO_NOVATEL)),
        }
    else:
        lidar_to_world = lidar_to_world.copy()
        lidar_to_world[:2, 3] -= [error["delta_x"], error["delta_y"]]
        relative = {"relative_error": {"delta_x": "", "delta_y": ""}}
        files = {"virtuallidar_to_world": _transform(lidar_to_world) | relative}
    for camera in view.cameras[:1]:
        to_camera = world_to_camera(camera) @ to_world(view.sensor_pose)
        files["lidar_to_camera" if error is None else "virtuallidar_to_camera"] = _transform(to_camera)
        height, width = camera.image.shape[:2]
        intrinsic = np.asarray(camera.intrinsic, np.float64).ravel().tolist()
        files["camera_intrinsic"] = {"cam_D": [0.0] * 5, "cam_K": intrinsic, "height": height, "width": width}
    return files


def in_view(view: AgentView, objects: Objects, rows: np.ndarray) -> np.ndarray:
    """Which of the rows have their centre in the picture, or in front of the agent if there is none: bool."""
    centres = _boxes(objects, rows)[:, :3]
    if not view.cameras:
        ahead = transform_points(centres, np.linalg.inv(to_world(view.sensor_pose)))
        return np.abs(np.arctan2(ahead[:, 1], ahead[:, 0])) < _HALF_FIELD
    camera = view.cameras[0]
    x, y, depth = (transform_points(centres, world_to_camera(camera)) @ np.asarray(camera.intrinsic).T).T
    height, width = camera.image.shape[:2]
    return (depth > 0) & (x >= 0) & (x < width * depth) & (y >= 0) & (y < height * depth)


def own_labels(view: AgentView, objects: Objects, rows: np.ndarray) -> bytes:
    """The list of one side, in its LiDAR's frame; pedestrians too, which readers of vehicles leave out."""
    boxes = _boxes(objects, rows)
    boxes[:, :3] = transform_points(boxes[:, :3], np.linalg.inv(to_world(view.sensor_pose)))
    boxes[:, 6] -= view.sensor_pose[3]
    return json_bytes(
        [
            {
                "type": type_of(objects.kinds[row]),
                "truncated_state": 0,
                "occluded_state": 0,
                "alpha": 0.0,
                "2d_box": dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), 0.0),
                "3d_dimensions": {"h": h, "w": w, "l": length},
                "3d_location": {"x": x, "y": y, "z": z},
                "rotation": (yaw + np.pi) % (2 * np.pi) - np.pi,
            }
            for row, (x, y, z, h, w, length, yaw) in zip(rows.tolist(), boxes.tolist(), strict=True)
        ]
    )


def common_labels(objects: Objects, rows: np.ndarray, error: Mapping[str, float]) -> bytes:
    """The list of both sides together: corners in the world."""
    boxes = _boxes(objects, rows)
    centres = boxes[:, None, :3].copy()
    boxes[:, :3] = 0  # corners are computed in single precision, which is too coarse far out in the world
    corners = boxes_to_corners_3d(boxes, "hwl") + centres
    return json_bytes(
        [
            {"type": type_of(objects.kinds[row]).lower(), "world_8_points": points, "system_error_offset": dict(error)}
            for row, points in zip(rows.tolist(), corners.tolist(), strict=True)
        ]
    )


def _boxes(objects: Objects, rows: np.ndarray) -> np.ndarray:
    """(N, 7) x, y, z, h, w, l, yaw in the world."""
    x, y, yaw = objects.poses[rows].T
    half_length, half_width, half_height = objects.half_sizes[rows].T
    return np.column_stack([x, y, half_height, 2 * half_height, 2 * half_width, 2 * half_length, yaw])


def _transform(matrix: np.ndarray) -> dict[str, Any]:
    return {"rotation": matrix[:3, :3].tolist(), "translation": matrix[:3, 3:].tolist()}
