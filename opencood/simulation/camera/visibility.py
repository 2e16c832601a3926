"""What the cameras of an agent see, drawn from above: the map ``bev_visibility.png`` (``spec/data.md`` 2.1 and 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opencood.geometry.poses import x_to_world
from opencood.simulation import rectangles
from opencood.simulation.boxes import Boxes
from opencood.simulation.camera.model import CameraModel
from opencood.simulation.camera.photograph import Sight
from opencood.simulation.camera.trace_kernel import NEAR
from opencood.simulation.ray_kernel import GROUND

SIZE, METRES_PER_PIXEL, CENTRE = 256, 0.39, 127
# A body of which less can be seen is not there for a camera.
SEEN_PIXELS = 4


def seen_bodies(sights: Sequence[Sight], boxes: Boxes, count: int) -> np.ndarray:
    """Which of ``count`` bodies at least one camera sees with ``SEEN_PIXELS`` pixels: (count,) bool."""
    seen = np.zeros(count, dtype=bool)
    for sight in sights:
        owner = boxes.owner[sight.hit[sight.hit >= 0]]
        seen |= np.bincount(owner[owner >= 0], minlength=count) >= SEEN_PIXELS
    return seen


def visibility_map(
    model: CameraModel, poses: np.ndarray, sights: Sequence[Sight], lidar_pose: np.ndarray, footprints: np.ndarray
) -> np.ndarray:
    """Map (256, 256) uint8 around the LiDAR, heading up: 255 where a camera sees the ground or a seen body stands.

    Args:
        poses: (C, 6) of the cameras; ``sights`` what they see.
        lidar_pose: (4,) x, y, z, heading (rad).
        footprints: rectangles (M, 5) of the bodies that the cameras see.
    """
    places = ground_places(lidar_pose)
    visible = np.zeros((SIZE, SIZE), dtype=bool)
    for pose, sight in zip(poses, sights, strict=True):
        visible |= _ground_seen(model, pose, sight, places)
    if len(footprints):
        visible |= rectangles.contains(footprints, places).any(axis=-1)
        row, column = _cells(footprints[:, :2], lidar_pose)
        inside = (row >= 0) & (row < SIZE) & (column >= 0) & (column < SIZE)
        visible[row[inside], column[inside]] = True
    return np.where(visible, np.uint8(255), np.uint8(0))


def ground_places(lidar_pose: np.ndarray) -> np.ndarray:
    """World points (256, 256, 2) under the pixels of a map around a LiDAR (4,), heading up."""
    x, y, _, heading = lidar_pose
    ahead, right = np.meshgrid(-_middles(), _middles(), indexing="ij")
    cos, sin = np.cos(heading), np.sin(heading)
    return np.stack([x + ahead * cos - right * sin, y + ahead * sin + right * cos], axis=-1)


def _middles() -> np.ndarray:
    """Coordinates (256,) of the middles of columns: pixel 127 reaches from -0.39 to 0.39 m, the others are 0.39 m."""
    steps = np.arange(SIZE) - CENTRE
    return METRES_PER_PIXEL * (steps + 0.5 * np.sign(steps))


def _cells(points: np.ndarray, lidar_pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of world points (M, 2); they may lie outside the map."""
    offset = points - lidar_pose[:2]
    cos, sin = np.cos(lidar_pose[3]), np.sin(lidar_pose[3])
    ahead, right = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
    return CENTRE - (ahead / METRES_PER_PIXEL).astype(int), CENTRE + (right / METRES_PER_PIXEL).astype(int)


def _ground_seen(model: CameraModel, pose: np.ndarray, sight: Sight, places: np.ndarray) -> np.ndarray:
    """Whether ground points (..., 2) of the world are in the picture and in front of everything: (...) bool."""
    to_camera = np.linalg.inv(x_to_world(pose))
    forward, right, up = (places @ to_camera[:3, :2].T + to_camera[:3, 3]).transpose(2, 0, 1)
    safe = np.maximum(forward, NEAR)
    column = np.floor(model.width / 2 + model.focal * right / safe).astype(int)
    row = np.floor(model.height / 2 - model.focal * up / safe).astype(int)
    seen = (forward > NEAR) & (column >= 0) & (column < model.width) & (row >= 0) & (row < model.height)
    row, column, forward = row[seen], column[seen], forward[seen]
    seen[seen] = (sight.hit[row, column] == GROUND) | (sight.depth[row, column] > forward)
    return seen
