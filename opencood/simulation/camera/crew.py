"""All cameras of one agent at one moment: pictures, depths, and what they see of the ground."""

from __future__ import annotations

import numpy as np

from opencood.simulation.boxes import Boxes
from opencood.simulation.camera.appearance import Appearance
from opencood.simulation.camera.model import CameraModel, camera_poses
from opencood.simulation.camera.photograph import Photographer, look
from opencood.simulation.camera.visibility import seen_bodies, visibility_map
from opencood.simulation.recording import CameraView


class CameraCrew:
    """Photographs one moment of a scenario for any agent.

    Args:
        boxes: the scene, the town first.
        footprints: rectangles (N, 5) of all bodies, present or not.
    """

    def __init__(self, model: CameraModel, appearance: Appearance, boxes: Boxes, footprints: np.ndarray) -> None:
        self._model, self._boxes, self._footprints = model, boxes, footprints
        self._photographer = Photographer(appearance, boxes, footprints[:, :3])

    def shoot(
        self, lidar_pose: np.ndarray, mounts: np.ndarray, own: int, rng: np.random.Generator
    ) -> tuple[tuple[CameraView, ...], np.ndarray]:
        """Pictures of an agent's cameras and its visibility map (256, 256) uint8.

        Args:
            lidar_pose: (4,) x, y, z, heading (rad), what the cameras are mounted on at ``mounts`` (C, 6).
            own: row of the agent's body, which its cameras do not see; ``NO_OWNER`` for none.
        """
        model, boxes = self._model, self._boxes
        poses = camera_poses(lidar_pose, mounts)
        sights = [look(model, pose, boxes, own) for pose in poses]
        views = tuple(
            CameraView(
                image=self._photographer.picture(model, pose, sight, rng),
                depth=sight.depth.astype(np.float32),
                pose=pose,
                intrinsic=model.intrinsic,
            )
            for pose, sight in zip(poses, sights, strict=True)
        )
        seen = seen_bodies(sights, boxes, len(self._footprints))
        return views, visibility_map(model, poses, sights, lidar_pose, self._footprints[seen])
