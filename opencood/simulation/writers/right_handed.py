"""Recordings in right-handed axes, x forward, y left, z up, for formats that use them: the sign of y changes.

The scene stays what it is; only its coordinates are written in other axes. Headings are then positive from +x towards
the new +y, so they change their sign as well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from opencood.geometry.poses import OPENCV_AXES, x_to_world
from opencood.simulation.recording import AgentView, CameraView, Frame

_MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])
_PLANAR, _SPATIAL = np.array([1, -1, -1]), np.array([1, -1, 1, -1])


def mirrored(frame: Frame) -> Frame:
    """The frame with points, objects and poses in right-handed axes; cameras keep their UE poses."""
    objects = replace(frame.objects, poses=frame.objects.poses * _PLANAR)
    return replace(frame, objects=objects, agents=tuple(_mirrored_view(view) for view in frame.agents))


def world_to_camera(camera: CameraView) -> np.ndarray:
    """(4, 4) from the right-handed world to the camera's OpenCV axes: x right, y down, z forward."""
    return np.linalg.inv(OPENCV_AXES) @ np.linalg.inv(x_to_world(camera.pose)) @ _MIRROR


def _mirrored_view(view: AgentView) -> AgentView:
    return replace(
        view,
        body_pose=view.body_pose * _SPATIAL,
        sensor_pose=view.sensor_pose * _SPATIAL,
        points=view.points * np.array([1, -1, 1, 1], np.float32),
        plan=view.plan * np.array([1, -1, 1]),
        fewer_beams={},
    )
