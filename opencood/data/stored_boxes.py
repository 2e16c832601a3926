"""Boxes that a detector found beforehand in every frame of a split: ``stage1_boxes.json`` (spec data.md, section 4).

    {"<index of the frame>": null or {cav_id_list: [...],
                                      pred_corner3d_np_list: [per agent (n, 8, 3), metres, its own frame],
                                      uncertainty_np_list: [per agent (n, u) log variances],
                                      lidar_pose_clean_np: (N, 6)}}

Beside it ``stage1_boxes.yaml`` may tell which detector it was; published files have none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from opencood.data import files
from opencood.errors import DataError

_CORNERS, _UNCERTAINTY, _IDS, _POSES = (
    "pred_corner3d_np_list", "uncertainty_np_list", "cav_id_list", "lidar_pose_clean_np",
)  # fmt: skip


@dataclass(frozen=True)
class DetectedBoxes:
    """What one agent detects by itself in one frame.

    Attributes:
        corners: (n, 8, 3) float64 in the agent's frame, metres.
        uncertainty: (n, u) float64 log variances of x, y, yaw.
        pose: (6,) true pose of its LiDAR in the world; None where the file does not tell it.
    """

    corners: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    pose: NDArray[np.float64] | None


class StoredBoxes:
    """The boxes of a split, by frame and agent.

    Raises:
        DataError: there is no such file, or it is none of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._frames = _read(path)

    def __len__(self) -> int:
        return len(self._frames)

    def indices(self) -> Iterator[int]:
        """Frames in which anything was detected, in order."""
        return iter(sorted(self._frames))

    def of(self, index: int) -> Mapping[str, DetectedBoxes]:
        """Boxes by agent in a frame; empty where nothing was detected."""
        return self._frames.get(index, {})

    def anchor_size(self) -> Sequence[float] | None:
        """Length and width in metres of the detector's anchor, where the file beside this one tells them."""
        beside = self.path.with_suffix(".yaml")
        try:
            told = yaml.safe_load(files.read_bytes(beside)) if files.exists(beside) else {}
            size = told.get("anchor_size")
            return None if size is None else [float(length) for length in size]
        except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{beside}: cannot be read ({error}); make it again with pose_graph_pre_calc.") from error


def _read(path: Path) -> dict[int, Mapping[str, DetectedBoxes]]:
    try:
        # Frame by frame into arrays: as Python numbers a whole split would take gigabytes.
        content = json.loads(files.read_bytes(path), object_hook=lambda found: _frame(path, found))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: broken JSON ({error}); make it again with pose_graph_pre_calc.") from error
    if not isinstance(content, dict) or not all(str(index).isdigit() for index in content):
        raise DataError(f"{path}: expected a map from the index of a frame to its boxes.")
    return {int(index): found for index, found in content.items() if found}


def _frame(path: Path, found: dict[str, Any]) -> Any:
    """The boxes of one frame by agent; the map of all frames, which comes last, as it is."""
    if _IDS not in found and _CORNERS not in found:
        return found
    try:
        names = [str(name) for name in found[_IDS]]
        poses = found.get(_POSES)
        return {
            name: DetectedBoxes(_rows(corners, 8, 3), _rows(uncertainty, -1), _pose(poses, row))
            for row, (name, corners, uncertainty) in enumerate(
                zip(names, found[_CORNERS], found[_UNCERTAINTY], strict=True)
            )
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: a frame lacks {_IDS}, {_CORNERS} (n, 8, 3) or {_UNCERTAINTY} of the same length ({error})."
        ) from error


def _rows(values: Any, *shape: int) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise ValueError("a number is not finite")
    if not array.size:
        return np.zeros((len(array), *(max(size, 0) for size in shape)))
    return array.reshape(len(array), *shape)


def _pose(poses: Any, row: int) -> NDArray[np.float64] | None:
    return None if poses is None else np.asarray(poses[row], np.float64).reshape(6)
