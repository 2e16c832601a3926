"""The metadata file of one agent at one stamp in the OPV2V format (spec data.md, section 2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from opencood.config.dialect import HypesLoader
from opencood.data.index import Moment
from opencood.errors import DataError
from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.geometry.poses import transform_points, x_to_world

# Half of a published file, and nobody reads it.
_TRAJECTORY = re.compile(rb"^plan_trajectory:.*?(?=^[^\s-]|\Z)", re.MULTILINE | re.DOTALL)
_CAMERA = re.compile(r"camera(\d+)$")
# Corners of a box of full size 2 x 2 x 2: the signs of the half sizes along length, width, height.
_CORNER_SIGNS = boxes_to_corners_3d(np.array([[0, 0, 0, 2, 2, 2, 0]], np.float64), "lwh")[0].astype(np.float64)


def parse_metadata(path: Path) -> Moment:
    """Return what a ``<stamp>.yaml`` says; unknown keys are ignored.

    Raises:
        DataError: the file is missing, no YAML, or lacks a key or a number.
    """
    try:
        document = _load(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"{path}: broken YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, Mapping):
        raise DataError(
            f"{path}: expected a map with 'lidar_pose' and 'vehicles', found {_kind(document)}; truncated file?"
        )
    try:
        return _moment(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"missing key {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}: {reason}; is the file complete?") from error


def _load(content: bytes) -> Any:
    try:
        return yaml.load(_TRAJECTORY.sub(b"", content), Loader=HypesLoader)
    except yaml.YAMLError:  # an alias may point into the trajectory
        return yaml.load(content, Loader=HypesLoader)


def _moment(document: Mapping[str, Any]) -> Moment:
    vehicles = document["vehicles"] or {}
    numbers = sorted(int(found[1]) for key in document if (found := _CAMERA.match(str(key))))
    cameras = [(number, document[f"camera{number}"]) for number in numbers]
    return Moment(
        lidar_pose=_numbers(document["lidar_pose"], (6,), "lidar_pose"),
        object_ids=np.array([int(name) for name in vehicles], np.int64),
        object_corners=np.stack([_corners(*item) for item in vehicles.items()]) if vehicles else np.zeros((0, 8, 3)),
        camera_poses=_stacked([_numbers(c["cords"], (6,), f"camera{k}.cords") for k, c in cameras], (6,)),
        camera_intrinsics=_stacked(
            [_numbers(c["intrinsic"], (3, 3), f"camera{k}.intrinsic") for k, c in cameras], (3, 3)
        ),
    )


def _corners(name: Any, vehicle: Mapping[str, Any]) -> NDArray[np.float64]:
    """(8, 3) corners of one object in the world."""
    location, offset, angle, extent = (
        _numbers(vehicle.get(key, [0, 0, 0]) if key == "center" else vehicle[key], (3,), f"vehicles.{name}.{key}")
        for key in ("location", "center", "angle", "extent")
    )
    pose = np.concatenate([location + offset, angle])
    return transform_points(_CORNER_SIGNS * extent, x_to_world(pose))


def _numbers(value: Any, shape: tuple[int, ...], key: str) -> NDArray[np.float64]:
    numbers = np.asarray(value, np.float64)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise ValueError(f"'{key}' must be {' x '.join(map(str, shape))} finite numbers, found {value!r}"[:200])
    return numbers


def _stacked(rows: list[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.stack(rows) if rows else np.zeros((0, *shape))


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
