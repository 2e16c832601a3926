"""Ground-truth boxes of agents and samples (spec data.md, sections 5 and 6), all objects of an agent at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data.frame import Agent, Objects
from opencood.data.pictures import first_existing, read_pixels
from opencood.data.samples.settings import SampleSettings
from opencood.errors import ConfigError, DataError
from opencood.geometry.boxes import boxes_to_corners_3d, corners_in_range, corners_to_boxes
from opencood.geometry.foreground import foreground_cells, foreground_map
from opencood.geometry.iou import bev_iou
from opencood.geometry.poses import transform_points, x_to_world
from opencood.geometry.postprocessors.ground_truth import SAME_OBJECT_IOU

_MAP_METRES_PER_PIXEL = 0.39
_MAP_CENTRE = 127


@dataclass(frozen=True)
class BoxSet:
    """Objects in one frame of reference.

    Attributes:
        ids: (n,) int64.
        boxes: (n, 7) float64 ``x, y, z, sizes, yaw``: metres, radians, sizes in the configured order; or (n, 8) with
            the class, counted from 1.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]

    @classmethod
    def nothing(cls) -> BoxSet:
        """No object at all."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 7)))

    def select(self, mask: NDArray[np.bool_]) -> BoxSet:
        """The objects of a mask (n,)."""
        return BoxSet(self.ids[mask], self.boxes[mask])

    def within(self, limits: Sequence[float], order: str) -> BoxSet:
        """The objects with all corners in a range, borders included."""
        return self.select(corners_in_range(boxes_to_corners_3d(self.boxes, order), limits))

    def padded(self, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(rows, 7 or 8) boxes and (rows,) mask, zeros behind the objects.

        Raises:
            ConfigError: there are more objects than rows.
        """
        if len(self.ids) > rows:
            raise ConfigError(f"postprocess.max_num: {rows} rows, but a frame has {len(self.ids)} objects; raise it.")
        boxes, mask = np.zeros((rows, self.boxes.shape[1])), np.zeros(rows)
        boxes[: len(self.ids)], mask[: len(self.ids)] = self.boxes, 1
        return boxes, mask


@dataclass(frozen=True)
class LabelRule:
    """Which objects an agent contributes.

    Attributes:
        label_range: range of LiDAR labels.
        camera_range: range of camera labels.
        order: order of the box sizes.
        by_visibility: camera labels are what the visibility map shows, unless the agent lists them.
        planar: sizes are measured in the ground plane, where a tilted box shrinks; otherwise in space.
        min_corners: so many corners in range make a label; None = all.
        classes: boxes end in a class.
        by_belief: labels are placed where the agent believes to be, as published for lists in the agent's own frame.
    """

    label_range: tuple[float, ...]
    camera_range: tuple[float, ...]
    order: str
    by_visibility: bool
    planar: bool = True
    min_corners: int | None = None
    classes: bool = False
    by_belief: bool = False

    def boxes(self, agent: Agent, reference: NDArray[np.float64], label_type: str) -> BoxSet:
        """Boxes of an agent's objects in the frame of a reference pose (6,)."""
        return self.box_sets([(agent, reference)], label_type)[0]

    def box_sets(self, wanted: Sequence[tuple[Agent, NDArray[np.float64]]], label_type: str) -> list[BoxSet]:
        """The same of several agents and references at once, which takes hardly longer than one."""
        objects = [self._listed(agent, label_type) for agent, _ in wanted]
        to_local = {id(pose): np.linalg.inv(x_to_world(pose)) for _, pose in wanted}
        corners = [
            transform_points(one.corners, to_local[id(pose)]) for one, (_, pose) in zip(objects, wanted, strict=True)
        ]
        boxes = corners_to_boxes(np.concatenate(corners), self.order, self.planar)
        limits = self.label_range if label_type == "lidar" else self.camera_range
        inside = corners_in_range(boxes_to_corners_3d(boxes, self.order), limits, min_corners=self.min_corners)
        if self.classes:
            boxes = np.concatenate([boxes, np.concatenate([classes_of(one) for one in objects])[:, None]], axis=1)
        ends = np.cumsum([len(one.ids) for one in objects])[:-1]
        split = zip(objects, np.split(boxes, ends), np.split(inside, ends), strict=True)
        return [BoxSet(one.ids, mine).select(mask) for one, mine, mask in split]

    def _listed(self, agent: Agent, label_type: str) -> Objects:
        """What an agent contributes, where it believes the objects to be."""
        objects = agent.objects if label_type == "lidar" else self._seen(agent)
        if not self.by_belief:
            return objects
        moved = x_to_world(agent.lidar_pose) @ np.linalg.inv(x_to_world(agent.lidar_pose_clean))
        return replace(objects, corners=transform_points(objects.corners, moved))

    def looked_up(self, agent: Agent, label_type: str) -> Agent:
        """The agent with the list of what its cameras see, so that its map is read once for several label sets."""
        if label_type == "lidar" or agent.camera_objects is not None:
            return agent
        return replace(agent, camera_objects=self._seen(agent))

    def _seen(self, agent: Agent) -> Objects:
        if agent.camera_objects is not None:
            return agent.camera_objects
        return seen_by_cameras(agent, self.order) if self.by_visibility else agent.objects


def label_rule(settings: SampleSettings, own_labels: bool) -> LabelRule:
    """The rule of a configuration; with ``own_labels`` every agent lists its objects for itself."""
    conventions = settings.conventions
    label_range, camera_range = settings.label_range, settings.anchor_range
    if conventions.label_margin is not None:
        label_range = camera_range = _widened(settings.anchor_range, conventions.label_margin)
    fixed = conventions.camera_label_range
    return LabelRule(
        _cropped(label_range, settings.crop_range),
        _cropped(fixed or camera_range, settings.crop_range),
        settings.order,
        by_visibility=fixed is None,
        planar=not settings.sizes_in_space,
        min_corners=conventions.label_corners,
        classes=settings.several_classes,
        by_belief=own_labels and conventions.agent_frame_labels and settings.published,
    )


def _cropped(limits: tuple[float, ...], crop: tuple[float, ...] | None) -> tuple[float, ...]:
    """What a range has in common with another."""
    if crop is None:
        return limits
    return (*map(max, limits[:3], crop[:3]), *map(min, limits[3:], crop[3:]))


def _widened(limits: tuple[float, ...], metres: float) -> tuple[float, ...]:
    """The range, reaching so many metres lower and higher."""
    x0, y0, z0, x1, y1, z1 = limits
    return x0, y0, z0 - metres, x1, y1, z1 + metres


def boxes_in_frame(objects: Objects, reference: NDArray[np.float64], order: str, planar: bool = True) -> BoxSet:
    """Boxes of objects in the frame of a reference pose (6,); roll and pitch are lost, ``planar`` sizes shrink."""
    local = transform_points(objects.corners, np.linalg.inv(x_to_world(reference)))
    return BoxSet(objects.ids, corners_to_boxes(local, order, planar))


def classes_of(objects: Objects) -> NDArray[np.float64]:
    """(n,) class of every object; where a data set knows no classes, all are of the first."""
    return np.ones(len(objects.ids)) if objects.classes is None else objects.classes.astype(np.float64)


def seen_by_cameras(agent: Agent, order: str) -> Objects:
    """The objects whose centre is marked in the agent's visibility map.

    Raises:
        DataError: the map is missing or broken, or the data set has none.
    """
    if agent.visibility is None:
        raise DataError(f"agent {agent.id}: this data set says nothing about what cameras see; use label_type: lidar.")
    picture = read_pixels(first_existing(agent.visibility.places), "RGB")
    centres = boxes_in_frame(agent.objects, agent.visibility.pose, order).boxes[:, :2]
    steps = (centres / _MAP_METRES_PER_PIXEL).astype(np.int64)
    rows, columns = _MAP_CENTRE - steps[:, 0], _MAP_CENTRE + steps[:, 1]
    inside = (rows >= 0) & (rows < picture.shape[0]) & (columns >= 0) & (columns < picture.shape[1])
    seen = inside.copy()
    seen[inside] = picture[rows[inside], columns[inside]].any(axis=1)
    return agent.objects.select(seen)


def merged(sets: Sequence[BoxSet]) -> BoxSet:
    """All objects of several agents in one frame, each the first time it occurs."""
    ids = np.concatenate([one.ids for one in sets])
    boxes = np.concatenate([one.boxes for one in sets])
    _, first = np.unique(ids, return_index=True)
    first.sort()
    return BoxSet(ids[first], boxes[first])


def merged_by_overlap(sets: Sequence[BoxSet], order: str) -> BoxSet:
    """All objects of several agents that have no common ids: of each agent those that overlap none of earlier agents.

    The ids become 0, 1, ...
    """
    boxes = sets[0].boxes
    for one in [one for one in sets[1:] if len(one.ids)]:
        overlap = bev_iou(boxes_to_corners_3d(one.boxes, order), boxes_to_corners_3d(boxes, order))
        boxes = np.concatenate([boxes, one.boxes[(overlap <= np.float32(SAME_OBJECT_IOU)).all(axis=1)]])
    return BoxSet(np.arange(len(boxes)), boxes)


def foreground_entry(found: BoxSet, settings: SampleSettings) -> dict[str, Any]:
    """Extra labels of CodeAlign: cells of every box (n, 4) int64 and the map (H, W) uint8 of all of them."""
    shape = settings.postprocessor.anchors().shape[:2]
    voxel_size = settings.hypes["preprocess"]["args"]["voxel_size"]
    cells = foreground_cells(
        found.boxes, settings.order, settings.anchor_range, voxel_size, shape, swapped_axes=settings.published
    )
    return {"gt_boxes": cells, "foreground_map": foreground_map(cells, shape)}


def label_entry(found: BoxSet, settings: SampleSettings) -> dict[str, Any]:
    """Padded boxes, their ids and the targets of one box set: the label part of a sample entry.

    Without ground truth (``labels: false``) only the empty list of ids.
    """
    if not settings.labels:
        return {"object_ids": []}
    boxes, mask = found.padded(settings.max_num)
    return {
        "object_bbx_center": boxes,
        "object_bbx_mask": mask,
        "object_ids": found.ids.tolist(),
        "label_dict": settings.postprocessor.compact_label(gt_box_center=boxes, mask=mask),
    }
