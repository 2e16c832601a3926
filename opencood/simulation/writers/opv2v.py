"""OPV2V, V2XSet, V2X-Real and V2V4Real, rows of one family of folders (spec data.md 2.1, 2.3, 2.6; coopre.md 11)."""

from __future__ import annotations

from typing import Any

import numpy as np

from opencood.geometry.poses import x1_to_x2, x_to_world
from opencood.registry import register
from opencood.simulation.recording import AgentView, CameraView, Frame
from opencood.simulation.writers.base import Cast
from opencood.simulation.writers.clouds import bin_bytes
from opencood.simulation.writers.metadata import KMH, box_entry, degrees, listed, pose6, rounded, to_world, type_of
from opencood.simulation.writers.tree import TreeFormat, TreeWriter

# V2V4Real: ids of an object that one agent lists, or that both list. Whatever is added for the agent, none meet.
_IDS_APART, _COMMON = 200, 50
_NO_PARTNER = -1


def describe_opv2v(view: AgentView, frame: Frame) -> dict[str, Any]:
    """Own poses and cameras, and the vehicles that this agent's LiDAR hit, never itself."""
    rows = listed(view, frame.objects, pedestrians=False).tolist()
    return _own_part(view) | {
        "vehicles": {int(frame.objects.ids[row]): box_entry(frame.objects, row) for row in rows},
    }


def describe_v2xreal(view: AgentView, frame: Frame) -> dict[str, Any]:
    """As in OPV2V, with pedestrians and the type of every object."""
    objects = frame.objects
    rows = listed(view, objects, pedestrians=True).tolist()
    return _own_part(view) | {
        "vehicles": {
            int(objects.ids[row]): box_entry(objects, row) | {"obj_type": type_of(objects.kinds[row])} for row in rows
        },
    }


def describe_v2v4real(view: AgentView, frame: Frame) -> dict[str, Any]:
    """The pose as a matrix, and objects in the agent's LiDAR frame; ``ass_id`` links those that both agents list."""
    objects, to_lidar = frame.objects, np.linalg.inv(to_world(view.sensor_pose))
    others = [listed(other, objects, pedestrians=True) for other in frame.agents if other.agent_id != view.agent_id]
    shared = set(np.concatenate([np.zeros(0, int), *others]).tolist())
    vehicles = {}
    for row in listed(view, objects, pedestrians=True).tolist():
        x, y, heading = objects.poses[row]
        place, number = to_lidar @ [x, y, 0.0, 1.0], int(objects.ids[row]) * _IDS_APART
        vehicles[number] = box_entry(objects, row) | {
            "angle": [0.0, degrees(heading - view.sensor_pose[3]), 0.0],
            "location": [rounded(value) for value in place[:3]],
            "obj_type": type_of(objects.kinds[row]),
            "ass_id": number + _COMMON if row in shared else _NO_PARTNER,
        }
    return {
        "ego_speed": rounded(view.speed * KMH),
        "lidar_pose": to_world(view.sensor_pose).tolist(),
        "true_ego_pos": to_world(view.body_pose).tolist(),
        "vehicles": vehicles,
    }


@register("writer", "opv2v")
class Opv2vWriter(TreeWriter):
    """OPV2V and OPV2V-H: cars, named by their ids, perhaps a roadside unit."""

    assignments = "opv2v"
    # OPV2V counts simulation steps of 0.05 s, so its 10 Hz frames carry every other number.
    format = TreeFormat(describe_opv2v, stamps_per_tick=2, extras=True)


@register("writer", "v2xset")
class V2XSetWriter(TreeWriter):
    """V2XSet: OPV2V with a roadside unit and without visibility maps and depth."""

    cast = Cast(roadside=(1, 1))
    assignments = "v2xset"
    format = TreeFormat(describe_opv2v, stamps_per_tick=2)


@register("writer", "v2xreal")
class V2XRealWriter(TreeWriter):
    """V2X-Real: two cars (1, 2) and two roadside units (-1, -2), raw clouds, objects of three classes."""

    cast = Cast(cars=(2, 2), roadside=(2, 2))
    assignments = "v2xreal"
    format = TreeFormat(
        describe_v2xreal,
        scenario=lambda date: f"{date.replace('_', '-')}_1_0",
        first_car=1,
        cloud_ending=".bin",
        cloud_bytes=bin_bytes,
    )


@register("writer", "v2v4real")
class V2V4RealWriter(TreeWriter):
    """V2V4Real: two cars (0, 1), right-handed axes, objects in the frame of the agent that lists them; no cameras."""

    cast = Cast(cars=(2, 2), roadside=(0, 0))
    format = TreeFormat(
        describe_v2v4real,
        scenario=lambda date: f"testoutput_CAV_data_{date.replace('_', '-')}_1",
        first_car=0,
        cameras=False,
        right_handed=True,
    )


def _own_part(view: AgentView) -> dict[str, Any]:
    """What an agent says of itself."""
    body = pose6(view.body_pose)
    return {
        **{f"camera{number}": _camera(camera, view) for number, camera in enumerate(view.cameras)},
        "ego_speed": rounded(view.speed * KMH),
        "lidar_pose": pose6(view.sensor_pose),
        "plan_trajectory": [[rounded(v) for v in (x, y, speed * KMH)] for x, y, speed in view.plan],
        "predicted_ego_pos": list(body),
        "true_ego_pos": body,
    }


def _camera(camera: CameraView, view: AgentView) -> dict[str, Any]:
    """Place of a camera in the world and, as a matrix, seen from the LiDAR; both in UE axes."""
    extrinsic = x1_to_x2(to_world(view.sensor_pose), x_to_world(camera.pose))
    return {
        "cords": [rounded(value) for value in camera.pose],
        "extrinsic": [[rounded(value) for value in row] for row in extrinsic],
        "intrinsic": np.asarray(camera.intrinsic, np.float64).tolist(),
    }
