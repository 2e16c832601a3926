"""Calibration and label files of DAIR-V2X-C (spec data.md, section 2.5)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data import files
from opencood.data.frame import NOTHING, Objects
from opencood.data.plausible import camera_matrix, in_world, rigid, sides
from opencood.data.stamps import Recording
from opencood.errors import DataError
from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.geometry.poses import transform_points, x_to_world

_KEPT_TYPES = frozenset({"car", "van", "truck", "bus"})
_SIZES, _PLACE = ("h", "w", "l"), ("x", "y", "z")


def load(path: Path, asked: str = "") -> Any:
    """Return the content of a JSON file; ``asked`` names the key that led to it.

    Raises:
        DataError: the file is missing or no JSON.
    """
    try:
        return json.loads(files.read_bytes(path))
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{asked}{path}: cannot be read ({reason}); is the data set complete?") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{asked}{path}: broken JSON ({error}); truncated file?") from error


def transform(path: Path) -> NDArray[np.float64]:
    """Return the (4, 4) matrix of a calibration file, metres.

    Raises:
        DataError: the file is missing, or holds no rotation of 3 x 3 and translation of 3 x 1 numbers.
    """
    content = load(path)
    try:
        content = content.get("transform", content)
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(content["rotation"], np.float64)
        matrix[:3, 3] = np.asarray(content["translation"], np.float64).reshape(3)
        return rigid(matrix, "the calibration")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: no rotation (3 x 3) and translation (3 x 1) of numbers: {error}.") from error


def intrinsic(path: Path) -> NDArray[np.float64]:
    """Return the (3, 3) camera matrix, pixels.

    Raises:
        DataError: the file is missing or holds no ``cam_K`` of nine numbers.
    """
    content = load(path)
    try:
        return camera_matrix(np.asarray(content["cam_K"], np.float64).reshape(3, 3), "cam_K")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: no cam_K of nine numbers: {error}.") from error


def common_objects(path: Path) -> Objects:
    """Return the objects that both sides list together; the id is the position in the file.

    Raises:
        DataError: the file is missing or an entry lacks ``world_8_points``.
    """
    entries = load(path)
    try:
        corners = [np.asarray(entry["world_8_points"], np.float64).reshape(8, 3) for entry in entries]
        if not corners:
            return NOTHING
        return Objects(np.arange(len(corners)), in_world(np.stack(corners), "world_8_points"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: an object has no world_8_points (8 x 3 numbers): {error}.") from error


def own_objects(path: Path, pose: NDArray[np.float64]) -> Objects:
    """Return the vehicles that one side lists in its LiDAR frame, moved to the world by its true pose (6,).

    Ids count all objects with a size, also those that are no vehicles.

    Raises:
        DataError: the file is missing or an entry is incomplete.
    """
    entries = load(path)
    try:
        numbered = list(_vehicles(entries))
        boxes = in_world(np.array([box for _, box in numbered]).reshape(-1, 7), "an object")
        sides(boxes[:, 3:6], "3d_dimensions")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}: an object is incomplete: {reason}.") from error
    if not numbered:
        return NOTHING
    corners = boxes_to_corners_3d(boxes, "hwl").astype(np.float64)
    return Objects(np.array([number for number, _ in numbered], np.int64), transform_points(corners, x_to_world(pose)))


def _vehicles(entries: list[Mapping[str, Any]]) -> Iterator[tuple[int, list[float]]]:
    """Id and box ``x, y, z, h, w, l, yaw`` of every vehicle; numbers may be written as text."""
    number = -1
    for entry in entries:
        sizes = [float(entry["3d_dimensions"][key]) for key in _SIZES]
        if 0 in sizes:
            continue
        number += 1
        if str(entry["type"]).lower() in _KEPT_TYPES:
            yield number, [*(float(entry["3d_location"][key]) for key in _PLACE), *sizes, float(entry["rotation"])]


class History:
    """All frames of one side, paired or not, from its ``data_info.json``.

    Raises:
        DataError: the file is missing, or lacks the names, batches or time stamps of its frames.
    """

    def __init__(self, path: Path) -> None:
        entries = load(path, "delay, asynchrony: ")
        try:
            frames = [
                (str(entry["batch_id"]), float(entry["pointcloud_timestamp"]), Path(entry["pointcloud_path"]).stem)
                for entry in entries
            ]
            batches, stamps, names = zip(*sorted(frames), strict=True)
            self._recording = Recording(stamps, batches)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{path}: delay and asynchrony need batch_id, pointcloud_timestamp and pointcloud_path of every frame "
                f"({error}); switch them off."
            ) from error
        self._path, self._names = path, names
        self._places = {name: place for place, name in enumerate(names)}

    def earlier(self, name: str, age: float) -> str:
        """Return the newest frame of the same drive at least ``age`` milliseconds older, or its first one.

        Raises:
            DataError: the frame is not listed.
        """
        if name not in self._places:
            raise DataError(f"{self._path}: frame {name} is not listed; is the data set complete?")
        return self._names[self._recording.earlier(self._places[name], age)]
