"""What is worth knowing before hours are spent: a few frames are looked at, and what cannot be learned is named.

Each finding is one sentence with its numbers and the key that causes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data.frame import EGO, Frame
from opencood.errors import DataError
from opencood.geometry.boxes import boxes_to_corners_3d, corners_to_boxes
from opencood.geometry.coding import decode_boxes
from opencood.geometry.poses import transform_points, x_to_world

AXES = "xyz"
LABEL_RANGE = "postprocess.anchor_args.cav_lidar_range"
SAME_CENTRE = 0.01  # metres
MUCH = 0.2  # share of boxes whose loss is worth a warning


@dataclass(frozen=True)
class FrameCheck:
    """What one frame says.

    Attributes:
        boxes: labelled boxes.
        unanchored: labelled boxes without a positive anchor.
        listed: objects that the agents list.
        beyond: objects that are inside the range in x and y but not in z.
        empty: the message when no point, or no agent, is left; None otherwise.
        labelled: whether the data set has ground truth.
    """

    boxes: int = 0
    unanchored: int = 0
    listed: int = 0
    beyond: int = 0
    empty: str | None = None
    labelled: bool = True


def check_start(hypes: Mapping[str, Any], dataset: Any, frames: int = 4) -> list[str]:
    """Return warnings about the configuration and about ``frames`` evenly spaced frames of a training set."""
    found = list(check_ranges(hypes))
    if not frames or not len(dataset):
        return found
    indices = np.unique(np.linspace(0, len(dataset) - 1, frames).astype(int)).tolist()
    return found + list(summarise([check_frame(dataset, index) for index in indices]))


def check_ranges(hypes: Mapping[str, Any]) -> Iterable[str]:
    """Where boxes are counted although no anchor, or no point, is there."""
    section = hypes.get("postprocess") or {}
    wanted = section.get("gt_range")
    places = {
        LABEL_RANGE: (section.get("anchor_args") or {}).get("cav_lidar_range"),
        "preprocess.cav_lidar_range": (hypes.get("preprocess") or {}).get("cav_lidar_range"),
    }
    for key, limits in places.items():
        if wanted is None or limits is None:
            continue
        outside = [axis for i, axis in enumerate(AXES) if wanted[i] < limits[i] or wanted[i + 3] > limits[i + 3]]
        if outside:
            yield (
                f"postprocess.gt_range {list(wanted)} reaches beyond {key} {list(limits)} in {', '.join(outside)}: "
                "boxes out there count as missed, but can never be found."
            )


def check_frame(dataset: Any, index: int) -> FrameCheck:
    """Look at one frame of a data set."""
    try:
        sample = dataset[index]
    except DataError as error:
        return FrameCheck(empty=str(error))
    if sample is None:
        broken = index in dataset.frames_left_out
        return FrameCheck(empty="it is broken and left out (on_bad_frame: skip)" if broken else "no agent takes part")
    entry, processor = sample[EGO], dataset.post_processor
    if "object_bbx_mask" not in entry:
        return FrameCheck(labelled=False)
    boxes = entry["object_bbx_center"][entry["object_bbx_mask"] == 1]
    reached = boxes_with_anchor(boxes, entry["label_dict"], processor.anchors(), processor.order)
    listed = objects_in_ego(dataset.frame(index), processor.order)
    beyond = lost_in_height(listed, dataset.anchor_range)
    return FrameCheck(len(boxes), int((~reached).sum()), len(listed), int(beyond.sum()))


def summarise(checks: list[FrameCheck]) -> Iterable[str]:
    """Turn the findings about some frames into sentences."""
    looked = f"of {len(checks)} training frames looked at"
    empty = [check.empty for check in checks if check.empty is not None]
    if empty:
        yield f"{len(empty)} {looked} have no input: {empty[0]}"
    boxes, unanchored = sum(c.boxes for c in checks), sum(c.unanchored for c in checks)
    listed, beyond = sum(c.listed for c in checks), sum(c.beyond for c in checks)
    if len(empty) < len(checks) and boxes == 0 and all(check.labelled for check in checks):
        yield (
            f"none {looked} has a box inside {LABEL_RANGE}, although {listed} objects are listed: nothing "
            "can be learned. Check the range (x, y and z) and the frame of the data set."
        )
    if unanchored:
        yield (
            f"{unanchored} of {boxes} ground-truth boxes get no anchor and are never learned. Check "
            "anchor_args.cav_lidar_range, the anchor sizes l, w, h and target_args.pos_threshold."
        )
    if listed and beyond > MUCH * max(boxes, 1):
        yield (
            f"{beyond} of {listed} listed objects lie inside {LABEL_RANGE} in x and y but not in z, and are "
            "left out. Widen z if they should be found."
        )


def boxes_with_anchor(
    boxes: NDArray[np.float64], label: Mapping[str, Any], anchors: NDArray[np.float64], order: str
) -> NDArray[np.bool_]:
    """Which boxes (M, 7), or (M, 8) with their class, some positive anchor is assigned to.

    A label's targets decode to the box they stand for, so this holds whatever the assignment's rules are. Labels of
    other forms (no anchors of shape (H, W, K, 7), or (C, H, W, K, 7) of several classes) are not judged: every box
    counts as reached.
    """
    if anchors.ndim == 5:  # class after class, as in the label
        anchors = anchors.transpose(1, 2, 0, 3, 4).reshape(*anchors.shape[1:3], -1, 7)
    if "pos_equal_one" not in label or anchors.ndim != 4 or order != "hwl":
        return np.ones(len(boxes), bool)
    positive = np.asarray(label["pos_equal_one"]) > 0
    targets = np.asarray(label["targets"]).reshape(*positive.shape, 7)
    centres = decode_boxes(targets[positive], anchors[positive])[:, :3]
    distances = np.linalg.norm(boxes[:, None, :3] - centres[None], axis=-1)
    return (distances < SAME_CENTRE).any(axis=1)


def objects_in_ego(frame: Frame, order: str) -> NDArray[np.float64]:
    """(n, 7) boxes of all objects that the agents of a frame list, each once, in the ego's frame."""
    ids = np.concatenate([agent.objects.ids for agent in frame.agents])
    corners = np.concatenate([agent.objects.corners for agent in frame.agents])
    first = np.unique(ids, return_index=True)[1]
    if not len(first):
        return np.zeros((0, 7))
    to_ego = np.linalg.inv(x_to_world(frame.ego.lidar_pose_clean))
    return corners_to_boxes(transform_points(corners[first], to_ego), order)


def lost_in_height(boxes: NDArray[np.float64], limits: Any) -> NDArray[np.bool_]:
    """Which boxes (n, 7) have their centre inside a range in x and y, and a corner outside of it in z."""
    low, high = np.asarray(limits[:3]), np.asarray(limits[3:])
    inside = ((boxes[:, :2] >= low[:2]) & (boxes[:, :2] <= high[:2])).all(axis=1)
    heights = boxes_to_corners_3d(boxes, "hwl")[..., 2]
    return inside & ((heights.min(axis=1) < low[2]) | (heights.max(axis=1) > high[2]))
