"""What one moment of one scenario holds, whatever the data set: a ``Frame`` of ``Agent``s.

Frames of reference: *world* is the data set's own; *agent* is the LiDAR of one agent (x forward; OPV2V: y right, z up).
Lengths are metres, pose angles degrees. Poses are ``[x, y, z, roll, yaw, pitch]`` (spec data.md, section 1).
All values are read-only: steps of the road return new frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opencood.errors import DataError

EGO = "ego"


@dataclass(frozen=True)
class Objects:
    """Objects that one agent lists at one moment.

    Attributes:
        ids: (n,) int64, the same for all agents of a scenario.
        corners: (n, 8, 3) float64 box corners in the world, metres; order of spec data.md, section 1.
        classes: (n,) int64 class of each object, counted from 1; None where all are vehicles.
    """

    ids: NDArray[np.int64]
    corners: NDArray[np.float64]
    classes: NDArray[np.int64] | None = None

    def select(self, mask: NDArray[np.bool_]) -> Objects:
        """The objects of a mask (n,)."""
        classes = None if self.classes is None else self.classes[mask]
        return Objects(self.ids[mask], self.corners[mask], classes)


NOTHING = Objects(np.zeros(0, np.int64), np.zeros((0, 8, 3)))


@dataclass(frozen=True)
class PointSource:
    """A point cloud that is read when it is asked for.

    Attributes:
        path: the file.
        decode: turns the file into (N, 4) float32 ``x, y, z, intensity`` in the agent's frame.
        listed_in: the file that names it, where a message must say so.
    """

    path: Path
    decode: Callable[[Path], NDArray[np.float32]]
    listed_in: Path | None = None

    def read(self) -> NDArray[np.float32]:
        """Return the (N, 4) float32 cloud, metres, agent frame.

        Raises:
            DataError: the file is missing or broken.
        """
        try:
            return self.decode(self.path)
        except DataError as error:
            if self.listed_in is None:
                raise
            raise DataError(f"{self.listed_in}: {error}") from error


@dataclass(frozen=True)
class Camera:
    """One camera of an agent; images are read when they are asked for.

    Attributes:
        to_lidar: (4, 4) float32 from the camera (OpenCV axes: x right, y down, z forward) to the agent's LiDAR.
        intrinsic: (3, 3) float64 pixels.
        image: RGB picture.
        depth: picture whose bytes are metres; None where the data set has no depth.
    """

    to_lidar: NDArray[np.float32]
    intrinsic: NDArray[np.float64]
    image: Path
    depth: Path | None = None


@dataclass(frozen=True)
class VisibilityMap:
    """What the cameras of an agent see, drawn from above: 256 x 256 pixels of 0.39 m, heading up.

    Attributes:
        places: where the picture may lie.
        pose: (6,) pose of the LiDAR that the map is drawn around.
    """

    places: tuple[Path, ...]
    pose: NDArray[np.float64]


@dataclass(frozen=True)
class Agent:
    """One connected vehicle or roadside unit at one moment.

    Attributes:
        id: its name in the data set; in the OPV2V family roadside units are negative.
        lidar_pose: (6,) float64 pose of the LiDAR in the world as the agents believe it, possibly disturbed.
        lidar_pose_clean: (6,) the true pose; ground truth is made with it.
        objects: what the agent lists; always of the ego's moment, also when the agent is late.
        lidar: its point cloud, not yet read.
        modality: name in ``heter.modality_setting``; None in homogeneous data sets.
        cameras: by position 0, 1, ...
        camera_objects: what its cameras see, where the data set lists it.
        visibility: map of what its cameras see, where the data set draws it.
        extras: where the further files of ``add_data_extension`` may lie, by their ending.
        roadside: whether it is a roadside unit and no vehicle.
        delay: age of its pose and observation, in frames.
        speed: km/h at the moment of its observation; 0 where the data set does not tell it.
        ego_pose_then: (6,) where the ego was at that moment; None for an agent that is not late.
    """

    id: str
    lidar_pose: NDArray[np.float64]
    lidar_pose_clean: NDArray[np.float64]
    objects: Objects
    lidar: PointSource
    modality: str | None = None
    cameras: tuple[Camera, ...] = ()
    camera_objects: Objects | None = None
    visibility: VisibilityMap | None = None
    extras: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    roadside: bool = False
    delay: int = 0
    speed: float = 0.0
    ego_pose_then: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Frame:
    """One moment of one scenario.

    Attributes:
        index: position in the data set.
        scenario: name of the scenario.
        stamp: time stamp of the ego, a zero-padded number.
        agents: the ego first; it owns the frame that results live in.
        unheard: agents whose messages do not arrive; what they list still is ground truth.
    """

    index: int
    scenario: str
    stamp: str
    agents: tuple[Agent, ...]
    unheard: tuple[Agent, ...] = ()

    @property
    def ego(self) -> Agent:
        """The first agent."""
        return self.agents[0]

    @property
    def label(self) -> str:
        """Short name for messages."""
        return f"frame {self.index} ({self.scenario} at {self.stamp})"


def is_roadside(agent_id: str) -> bool:
    """Whether an agent id is that of a roadside unit (negative)."""
    return agent_id.startswith("-")


def roadside_last(ids: Sequence[str]) -> list[str]:
    """Return the ids with roadside units behind the vehicles if one of them leads, each kind in the given order.

    An RSU at another place stays there, as published; with several RSUs none becomes ego (spec data.md, Q1).
    """
    if not ids or not is_roadside(ids[0]):
        return list(ids)
    return [i for i in ids if not is_roadside(i)] + [i for i in ids if is_roadside(i)]
