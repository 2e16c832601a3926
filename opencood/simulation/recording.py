"""What a scenario hands to the writers: frames of objects and agents' views, in the world frame, whatever the format.

World axes are UE's: x forward, y right, z up; metres, seconds; headings in rad from +x towards +y.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from opencood.simulation.bodies import class_of


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

    @property
    def classes(self) -> tuple[str, ...]:
        """M super-classes of V2X-Real: ``vehicle``, ``pedestrian`` or ``truck`` (vans included)."""
        return tuple(class_of(kind) for kind in self.kinds)


@dataclass(frozen=True)
class CameraView:
    """One picture and what it was taken with.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres along the optical axis; infinite where nothing is.
        pose: (6,) x, y, z, roll, yaw, pitch of the camera in the world, metres and degrees, UE axes: x is optical.
        intrinsic: (3, 3) float64 pixels.
    """

    image: np.ndarray
    depth: np.ndarray
    pose: np.ndarray
    intrinsic: np.ndarray


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
        cameras: in the order of the data set's camera numbers; empty when none were simulated.
        visibility: (256, 256) uint8, non-zero where the cameras see the ground, or a body that stands there; 0.39 m a
            pixel, heading up; or None.
        ground: (256, 256) uint8 maps of what is around by name (``ground_maps``), of simulations with cameras.
        fewer_beams: clouds as ``points`` of LiDARs with fewer beams, by number of beams.
    """

    agent_id: int
    body_pose: np.ndarray
    sensor_pose: np.ndarray
    speed: float
    points: np.ndarray
    hits: np.ndarray
    plan: np.ndarray
    cameras: tuple[CameraView, ...] = ()
    visibility: np.ndarray | None = None
    ground: Mapping[str, np.ndarray] = field(default_factory=dict)
    fewer_beams: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """One moment of a scenario, seen by all agents; ``tick`` counts tenths of a second."""

    tick: int
    objects: Objects
    agents: tuple[AgentView, ...]


def ego_first(agents: Iterable[AgentView]) -> list[AgentView]:
    """Agents in the order of published test sets: cars by their ids as text, then roadside units (data.md 3.1)."""
    return sorted(agents, key=lambda agent: (agent.agent_id < 0, str(agent.agent_id)))
