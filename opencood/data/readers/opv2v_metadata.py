"""The metadata file of one agent at one stamp in the OPV2V format (spec data.md, section 2.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from opencood.config.dialect import HypesLoader
from opencood.data import files
from opencood.data.cuboids import cuboid_corners
from opencood.data.index import Moment
from opencood.data.plausible import WORLD_METRES, camera_matrix, rigid, sides
from opencood.errors import DataError
from opencood.geometry.poses import tfm_to_pose, transform_points, x_to_world

# Half of a published file, and nobody reads it.
_TRAJECTORY = re.compile(rb"^plan_trajectory:.*?(?=^[^\s-]|\Z)", re.MULTILINE | re.DOTALL)
Entry = Mapping[str, Any]
VEHICLE = 1  # the only class of OPV2V
_CAMERA = re.compile(r"camera(\d+)$")


def _vehicle(entry: Entry) -> int:
    return VEHICLE


def _own_name(name: int, entry: Entry, agent: str) -> int:
    return name


@dataclass(frozen=True)
class Dialect:
    """How metadata files are read; the defaults are those of OPV2V.

    Attributes:
        name: in the key of the index cache.
        class_of: class of an entry of ``vehicles``, counted from 1; 0 leaves it out.
        id_of: id of an object, given its name, its entry and the agent that lists it.
        boxes_in_lidar: whether boxes are written in the agent's LiDAR frame; None = where the pose is a matrix.
        labels: whether objects are read; otherwise ``vehicles`` may be missing.
    """

    name: str = "opv2v"
    class_of: Callable[[Entry], int] = _vehicle
    id_of: Callable[[int, Entry, str], int] = _own_name
    boxes_in_lidar: bool | None = False
    labels: bool = True

    def unlabelled(self) -> Dialect:
        """The same without objects."""
        return replace(self, name=f"{self.name} unlabelled", labels=False)


OPV2V = Dialect()


def parse_metadata(path: Path, dialect: Dialect = OPV2V) -> Moment:
    """Return what a ``<stamp>.yaml`` says; unknown keys are ignored.

    Raises:
        DataError: the file is missing, no YAML, or lacks a key or a number.
    """
    try:
        document = _load(files.read_bytes(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" in line {mark.line + 1}" if mark else ""
        raise DataError(f"{path}: broken YAML{line}: {error.problem or error.context}; truncated file?") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: broken YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, Mapping):
        raise DataError(
            f"{path}: expected a map with 'lidar_pose' and 'vehicles', found {_kind(document)}; truncated file?"
        )
    try:
        return _moment(document, dialect, agent=path.parent.name)
    except KeyError as error:
        raise DataError(f"{path}: missing key {error}; is the file complete?") from error
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: {error}; is the file complete?") from error


def _load(content: bytes) -> Any:
    try:
        return yaml.load(_TRAJECTORY.sub(b"", content), Loader=HypesLoader)
    except yaml.YAMLError:  # an alias may point into the trajectory
        return yaml.load(content, Loader=HypesLoader)


def _moment(document: Entry, dialect: Dialect, agent: str) -> Moment:
    listed = _map(document["vehicles"] or {}, "vehicles") if dialect.labels else {}
    vehicles = {name: _map(entry, f"vehicles.{name}") for name, entry in listed.items()}
    classes = {name: label for name, entry in vehicles.items() if (label := dialect.class_of(entry))}
    ids = [dialect.id_of(object_id(name), vehicles[name], agent) for name in classes]
    numbers = sorted(int(found[1]) for key in document if (found := _CAMERA.match(str(key))))
    cameras = [(number, _map(document[f"camera{number}"], f"camera{number}")) for number in numbers]
    is_matrix = np.shape(document["lidar_pose"]) == (4, 4)
    pose = _numbers(document["lidar_pose"], (4, 4) if is_matrix else (6,), "lidar_pose")
    if is_matrix:
        rigid(pose, "'lidar_pose'")
    in_lidar = is_matrix if dialect.boxes_in_lidar is None else dialect.boxes_in_lidar
    corners = _stacked([_corners(name, vehicles[name]) for name in classes], (8, 3))
    return Moment(
        lidar_pose=tfm_to_pose(pose) if is_matrix else pose,
        object_ids=np.array(ids, np.int64),
        object_corners=transform_points(corners, x_to_world(pose)) if in_lidar else corners,
        object_classes=np.array(list(classes.values()), np.int64),
        camera_poses=_stacked([_numbers(c["cords"], (6,), f"camera{k}.cords") for k, c in cameras], (6,)),
        camera_intrinsics=_stacked(
            [
                camera_matrix(_numbers(c["intrinsic"], (3, 3), f"camera{k}.intrinsic"), f"'camera{k}.intrinsic'")
                for k, c in cameras
            ],
            (3, 3),
        ),
        speed=float(_numbers(document.get("ego_speed", 0), (), "ego_speed")),
    )


def object_id(name: Any) -> int:
    """Return the number of an object.

    Raises:
        ValueError: it is none.
    """
    try:
        return int(name)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"'vehicles' has the name {name!r} where the number of an object is expected") from error


def _map(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"'{key}' must be a map, found {_kind(value)}")
    return value


def _corners(name: Any, vehicle: Mapping[str, Any]) -> NDArray[np.float64]:
    """(8, 3) corners of one object in the world."""
    location, offset, angle, extent = (
        _numbers(vehicle.get(key, [0, 0, 0]) if key == "center" else vehicle[key], (3,), f"vehicles.{name}.{key}")
        for key in ("location", "center", "angle", "extent")
    )
    sides(extent, f"'vehicles.{name}.extent' (half sizes)")
    pose = np.concatenate([location + offset, angle])
    return cuboid_corners(extent[None], x_to_world(pose)[None])[0]


def _numbers(value: Any, shape: tuple[int, ...], key: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.shape != shape or not (np.abs(numbers) <= WORLD_METRES).all():
        size = " x ".join(map(str, shape)) + " finite numbers" if shape else "a finite number"
        wanted = f"{size} up to {WORLD_METRES:.0e}"
        raise ValueError(f"'{key}' must be {wanted}, found {value!r}"[:200])
    return numbers


def _stacked(rows: list[NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.stack(rows) if rows else np.zeros((0, *shape))


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
