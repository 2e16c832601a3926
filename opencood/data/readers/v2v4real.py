"""Reader of V2V4Real: two vehicles that list objects in their own frames (spec coopre.md, section 11.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from opencood.data.frame import Objects
from opencood.data.index import Moment
from opencood.data.readers.base import Conventions, ReaderSettings
from opencood.data.readers.opv2v import OPV2VReader
from opencood.data.readers.opv2v_metadata import VEHICLE, Dialect, object_id
from opencood.errors import ConfigError
from opencood.geometry.poses import transform_points, x_to_world
from opencood.registry import register

_IDS_PER_AGENT = 100  # ids of objects that only one agent lists are moved apart by so much
_NO_PARTNER = -1
_BOX_FRAMES = {"lidar": True, "world": False}


@register("reader", "v2v4real")
class V2V4RealReader(OPV2VReader):
    """Frames of a folder ``<scenario>/{0,1}/<stamp>.{yaml,pcd}``.

    Poses are matrices or six numbers. ``box_frame`` (``lidar`` or ``world``) says where boxes are written; by default
    in the LiDAR frame where poses are matrices, and in the world otherwise or with ``isSim``.
    """

    conventions: ClassVar[Conventions] = Conventions(
        default_comm_range=math.inf,
        default_max_cav=2,
        default_gt_range=(-100, -40, -5, 100, 40, 3),
    )

    def __init__(self, settings: ReaderSettings) -> None:
        named = "world" if settings.hypes.get("isSim") else settings.hypes.get("box_frame")
        if named is not None and named not in _BOX_FRAMES:
            raise ConfigError(f"box_frame: '{named}' is none of {', '.join(_BOX_FRAMES)}.")
        in_lidar = None if named is None else _BOX_FRAMES[named]
        self.dialect = Dialect(f"v2v4real {named}", _class_of, _common_id, in_lidar)
        if settings.roster is not None and settings.roster.assignment is None:
            settings = replace(settings, roster=replace(settings.roster, assignment={}))  # agent 0 is m1, agent 1 is m2
        super().__init__(settings)

    def _objects(self, believed: Moment, current: Moment) -> Objects:
        """As published, common labels of a late agent travel with its old pose; fixed: they stay where they are."""
        objects = super()._objects(believed, current)
        if self.settings.own_labels or not self.settings.published:
            return objects
        moved = x_to_world(believed.lidar_pose) @ np.linalg.inv(x_to_world(current.lidar_pose))
        return replace(objects, corners=transform_points(objects.corners, moved))


def _class_of(entry: Mapping[str, Any]) -> int:
    """All objects but pedestrians are vehicles; an object without a type is a car."""
    return 0 if entry.get("obj_type") == "Pedestrian" else VEHICLE


def _common_id(name: int, entry: Mapping[str, Any], agent: str) -> int:
    """The id that links an object across agents, or one that no other agent uses."""
    common = object_id(entry.get("ass_id", name))
    return name + _IDS_PER_AGENT * int(agent) if common == _NO_PARTNER else common
