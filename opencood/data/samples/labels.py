"""Ground-truth boxes of agents and samples (spec data.md, sections 5 and 6), all objects of an agent at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data.frame import Agent, Objects
from opencood.data.images import first_existing, read_picture
from opencood.data.samples.settings import SampleSettings
from opencood.errors import ConfigError
from opencood.geometry.boxes import boxes_to_corners_3d, corners_in_range, corners_to_boxes
from opencood.geometry.foreground import foreground_cells, foreground_map
from opencood.geometry.poses import transform_points, x_to_world

_MAP_METRES_PER_PIXEL = 0.39
_MAP_CENTRE = 127


@dataclass(frozen=True)
class BoxSet:
    """Objects in one frame of reference.

    Attributes:
        ids: (n,) int64.
        boxes: (n, 7) float64 ``x, y, z, sizes, yaw``: metres, radians, sizes in the configured order.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float64]

    def select(self, mask: NDArray[np.bool_]) -> BoxSet:
        """The objects of a mask (n,)."""
        return BoxSet(self.ids[mask], self.boxes[mask])

    def within(self, limits: Sequence[float], order: str) -> BoxSet:
        """The objects all of whose corners lie in a range, borders included."""
        return self.select(corners_in_range(boxes_to_corners_3d(self.boxes, order), limits))

    def padded(self, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(rows, 7) boxes and (rows,) mask, zeros behind the objects.

        Raises:
            ConfigError: there are more objects than rows.
        """
        if len(self.ids) > rows:
            raise ConfigError(f"postprocess.max_num: {rows} rows, but a frame has {len(self.ids)} objects; raise it.")
        boxes, mask = np.zeros((rows, 7)), np.zeros(rows)
        boxes[: len(self.ids)], mask[: len(self.ids)] = self.boxes, 1
        return boxes, mask


@dataclass(frozen=True)
class LabelRule:
    """Which objects an agent contributes.

    Attributes:
        label_range: range of LiDAR labels.
        camera_range: range of camera labels.
        order: order of the box sizes.
        by_visibility: camera labels are what the visibility map shows.
    """

    label_range: tuple[float, ...]
    camera_range: tuple[float, ...]
    order: str
    by_visibility: bool

    def boxes(self, agent: Agent, reference: NDArray[np.float64], label_type: str) -> BoxSet:
        """Boxes of an agent's objects in the frame of a reference pose (6,)."""
        if label_type == "lidar":
            return boxes_in_frame(agent.objects, reference, self.order).within(self.label_range, self.order)
        objects = seen_by_cameras(agent, self.order) if self.by_visibility else agent.objects
        return boxes_in_frame(objects, reference, self.order).within(self.camera_range, self.order)


def label_rule(settings: SampleSettings) -> LabelRule:
    """The rule of a configuration."""
    fixed = settings.camera_label_range
    return LabelRule(settings.label_range, fixed or settings.anchor_range, settings.order, by_visibility=fixed is None)


def boxes_in_frame(objects: Objects, reference: NDArray[np.float64], order: str) -> BoxSet:
    """Boxes of objects in the frame of a reference pose (6,); roll and pitch are lost."""
    local = transform_points(objects.corners, np.linalg.inv(x_to_world(reference)))
    return BoxSet(objects.ids, corners_to_boxes(local, order))


def seen_by_cameras(agent: Agent, order: str) -> Objects:
    """The objects whose centre is marked in the agent's visibility map.

    Raises:
        DataError: the map is missing or broken.
    """
    visible = np.asarray(read_picture(first_existing(agent.visibility), "RGB")).max(axis=2) > 0
    centres = boxes_in_frame(agent.objects, agent.lidar_pose_clean, order).boxes[:, :2]
    steps = (centres / _MAP_METRES_PER_PIXEL).astype(np.int64)
    rows, columns = _MAP_CENTRE - steps[:, 0], _MAP_CENTRE + steps[:, 1]
    inside = (rows >= 0) & (rows < visible.shape[0]) & (columns >= 0) & (columns < visible.shape[1])
    seen = inside.copy()
    seen[inside] = visible[rows[inside], columns[inside]]
    return Objects(agent.objects.ids[seen], agent.objects.corners[seen])


def merged(sets: Sequence[BoxSet]) -> BoxSet:
    """All objects of several agents in one frame, each the first time it occurs."""
    ids = np.concatenate([one.ids for one in sets])
    boxes = np.concatenate([one.boxes for one in sets])
    _, first = np.unique(ids, return_index=True)
    first.sort()
    return BoxSet(ids[first], boxes[first])


def foreground_entry(found: BoxSet, settings: SampleSettings) -> dict[str, Any]:
    """Extra labels of CodeAlign: cells of every box (n, 4) int64 and the map (H, W) uint8 of all of them."""
    shape = settings.postprocessor.anchors().shape[:2]
    voxel_size = settings.hypes["preprocess"]["args"]["voxel_size"]
    cells = foreground_cells(
        found.boxes, settings.order, settings.anchor_range, voxel_size, shape, swapped_axes=settings.published
    )
    return {"gt_boxes": cells, "foreground_map": foreground_map(cells, shape)}


def label_entry(found: BoxSet, settings: SampleSettings) -> dict[str, Any]:
    """Padded boxes, their ids and the targets of one box set: the label part of a sample entry."""
    boxes, mask = found.padded(settings.max_num)
    return {
        "object_bbx_center": boxes,
        "object_bbx_mask": mask,
        "object_ids": found.ids.tolist(),
        "label_dict": settings.postprocessor.generate_label(gt_box_center=boxes, mask=mask),
    }
