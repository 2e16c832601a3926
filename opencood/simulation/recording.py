"""What a scenario hands to the writers: frames of objects and agents' views, in the world frame, whatever the format.

World axes are UE's: x forward, y right, z up; metres, seconds; headings in rad from +x towards +y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Objects:
    """Road users of one moment, vehicles and pedestrians, connected cars included.

    Attributes:
        ids: (M,) object ids, constant over a scenario.
        kinds: M names of shapes.
        poses: (M, 3) x, y, heading of the bounding box's centre; the box stands on z = 0.
        half_sizes: (M, 3) half length, width, height.
        speed: (M,) m/s.
        is_vehicle: (M,) bool.
    """

    ids: np.ndarray
    kinds: tuple[str, ...]
    poses: np.ndarray
    half_sizes: np.ndarray
    speed: np.ndarray
    is_vehicle: np.ndarray


@dataclass(frozen=True)
class AgentView:
    """What one agent measured.

    Attributes:
        agent_id: id of its own body among the objects, negative for a roadside unit.
        body_pose: (4,) x, y, z, heading of the body (of the foot of the pole).
        sensor_pose: (4,) x, y, z, heading of the LiDAR.
        speed: m/s.
        points: (N, 4) float32 x, y, z, intensity (0 to 1) in the sensor frame.
        hits: (M,) points on each object of the frame.
        plan: (K, 3) x, y, speed (m/s) of the next moments.
    """

    agent_id: int
    body_pose: np.ndarray
    sensor_pose: np.ndarray
    speed: float
    points: np.ndarray
    hits: np.ndarray
    plan: np.ndarray


@dataclass(frozen=True)
class Frame:
    """One moment of a scenario, seen by all agents; ``tick`` counts tenths of a second."""

    tick: int
    objects: Objects
    agents: tuple[AgentView, ...]
