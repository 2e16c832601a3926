"""Poses, boxes and names of objects as the files of the formats write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from opencood.geometry.poses import x_to_world
from opencood.simulation.recording import AgentView, Objects

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
KMH = 3.6
# V2X-Real, V2V4Real and DAIR-V2X call these classes by the same names.
_TYPE_OF_KIND = {"van": "Van", "truck": "Truck", "pedestrian": "Pedestrian"}


def type_of(kind: str) -> str:
    """The published name of a body's class."""
    return _TYPE_OF_KIND.get(kind, "Car")


def listed(view: AgentView, objects: Objects, pedestrians: bool) -> np.ndarray:
    """Rows of the objects that an agent's LiDAR hit, without its own body."""
    wanted = objects.is_vehicle | pedestrians
    return np.flatnonzero(wanted & (view.hits > 0) & (objects.ids != view.agent_id))


def box_entry(objects: Objects, row: int) -> dict[str, Any]:
    """One object as the OPV2V family describes it, in the world."""
    x, y, heading = objects.poses[row]
    return {
        "angle": [0.0, degrees(heading), 0.0],
        "center": [0.0, 0.0, rounded(objects.half_sizes[row, 2])],
        "extent": [rounded(half) for half in objects.half_sizes[row]],
        "location": [rounded(x), rounded(y), 0.0],
        "speed": rounded(objects.speed[row] * KMH),
    }


def pose6(pose: np.ndarray) -> list[float]:
    """[x, y, z, roll, yaw, pitch] in metres and degrees from x, y, z, heading (rad)."""
    x, y, z, heading = pose
    return [rounded(x), rounded(y), rounded(z), 0.0, degrees(heading), 0.0]


def to_world(pose: np.ndarray) -> np.ndarray:
    """(4, 4) from the frame of a pose x, y, z, heading (rad) to the world, of either handedness."""
    x, y, z, heading = pose
    return x_to_world([x, y, z, 0.0, np.degrees(heading), 0.0])


def degrees(heading: float) -> float:
    """Degrees in [-180, 180)."""
    return rounded((np.degrees(heading) + 180) % 360 - 180)


def rounded(value: float) -> float:
    """To six decimals."""
    # Adding zero turns -0.0 into 0.0.
    return round(float(value), 6) + 0.0


def yaml_bytes(content: Mapping[str, Any]) -> bytes:
    """A YAML file."""
    return yaml.dump(content, Dumper=_Dumper, default_flow_style=None, sort_keys=True).encode()
