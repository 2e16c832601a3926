"""Cameras and where they are mounted. UE axes: x forward (optical), y right, z up; metres, degrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opencood.errors import ConfigError
from opencood.geometry.poses import tfm_to_pose, x_to_world

# Mounts relative to the LiDAR, as in OPV2V: front, right rear, left rear, back; x, y, z, roll, yaw, pitch.
CAR_MOUNTS = np.array(
    [
        [2.5, 0.0, -0.6, 0.0, 0.0, 0.0],
        [0.0, 0.3, 0.1, 0.0, 100.0, 0.0],
        [0.0, -0.3, 0.1, 0.0, -100.0, 0.0],
        [-2.0, 0.0, -0.4, 0.0, 180.0, 0.0],
    ]
)
# From its pole a roadside unit looks down on the junction.
_ROADSIDE_TILT = -18.0
ROADSIDE_MOUNTS = np.array([[0.0, 0.0, -0.2, 0.0, yaw, _ROADSIDE_TILT] for yaw in (0.0, 100.0, -100.0, 180.0)])


@dataclass(frozen=True)
class CameraModel:
    """A pinhole camera with square pixels; pixel (row i, column j) looks along its middle, (j + 0.5, i + 0.5).

    Attributes:
        width, height: pixels.
        fov: horizontal field of view, degrees.

    Raises:
        ConfigError: there is no such camera.
    """

    width: int = 800
    height: int = 600
    fov: float = 100.0

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 16:
            raise ConfigError(f"--image_size: expected at least 16x16 pixels, got {self.width}x{self.height}.")
        if not 10 <= self.fov <= 150:
            raise ConfigError(f"--fov: expected 10 to 150 degrees, got {self.fov:g}.")

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return float(self.width / 2 / np.tan(np.radians(self.fov / 2)))

    @property
    def intrinsic(self) -> np.ndarray:
        """(3, 3) float64 from camera axes x right, y down, z forward to pixels."""
        return np.array(
            [[self.focal, 0.0, self.width / 2], [0.0, self.focal, self.height / 2], [0.0, 0.0, 1.0]], np.float64
        )


def camera_poses(lidar_pose: np.ndarray, mounts: np.ndarray) -> np.ndarray:
    """World poses (C, 6) of cameras mounted (C, 6) on a LiDAR at ``lidar_pose`` (4,) = x, y, z, heading (rad)."""
    x, y, z, heading = lidar_pose
    lidar = x_to_world(np.array([x, y, z, 0.0, np.degrees(heading), 0.0]))
    return np.array([tfm_to_pose(lidar @ x_to_world(mount)) for mount in mounts])
