"""What one frame of a data set looks like: everything that training might read of it is read once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data import files
from opencood.data.draws import Draws
from opencood.data.frame import Agent, Frame, Objects
from opencood.data.pictures import first_existing, read_picture
from opencood.data.readers.base import Reader, ReaderSettings
from opencood.data.readers.opv2v import OPV2VReader
from opencood.data.readers.opv2v_files import channel_file
from opencood.errors import DataError
from opencood.experiments.dataset_check.places import Split
from opencood.geometry.points import points_per_box
from opencood.geometry.poses import transform_points, x_to_world
from opencood.registry import REGISTRY

METADATA, LIDAR, CAMERA, DEPTH, VISIBILITY = "metadata", "lidar", "camera", "depth", "visibility"
OWN_LABELS, CAMERA_LABELS = "own labels", "camera labels"
LINES = {32: "lidar 32", 16: "lidar 16"}
OK, MISSING, BROKEN = "ok", "missing", "broken"

_EVERYBODY = 10**6  # no limit on the number of agents
_NEAR = 30.0  # metres within which a listed object should have been hit
_FAR = 200.0  # metres beyond which no sensor of these data sets lists an object
_HIGH = 50.0  # metres
_SIZES = (0.1, 30.0)  # metres; shortest and longest side of anything on a road
_ROAD_SHARE = 0.25
_MARGIN = 0.1  # metres around a box in which a point still counts
_MIRROR = np.array([1, -1, 1], np.float32)


@dataclass(frozen=True)
class Trouble:
    """One file or label list that is missing or broken."""

    kind: str
    state: str
    where: str
    message: str


@dataclass(frozen=True)
class AgentLook:
    """One agent of one frame.

    Attributes:
        id: name of the agent.
        roadside: whether it is a roadside unit.
        pose: of the LiDAR in the world, metres and degrees.
        states: kind of data -> ``ok``, ``missing`` or ``broken``; how often.
        classes: label -> objects listed.
        odd_sizes: objects whose sides no road user has.
        out_of_range: objects too far from the agent to be seen.
        points: points of the sweep, None when it was not read.
        reach: metres to its farthest point.
        near, hit, hit_mirrored: listed objects nearby; those with points in them; those with points once y is mirrored.
        picture_sizes: (width, height) of its pictures.
    """

    id: str
    roadside: bool
    pose: tuple[float, ...]
    states: Mapping[tuple[str, str], int]
    classes: Mapping[int, int]
    odd_sizes: int
    out_of_range: int
    points: int | None = None
    reach: float = 0.0
    near: int = 0
    hit: int = 0
    hit_mirrored: int = 0
    picture_sizes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class FrameLook:
    """One frame; without agents when its metadata cannot be read.

    Attributes:
        troubles: what is missing or broken.
        readable: lists of labels that other methods read, and that can be read.
    """

    index: int
    scenario: str = ""
    stamp: str = ""
    agents: tuple[AgentLook, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    readable: tuple[str, ...] = ()


@dataclass
class _Notes:
    """Collects what becomes of the files of one agent."""

    where: str
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    troubles: list[Trouble] = field(default_factory=list)

    def add(self, kind: str, state: str, message: str = "") -> None:
        self.states[kind, state] += 1
        if state != OK:
            self.troubles.append(Trouble(kind, state, self.where, message))


class SplitReaders:
    """The readers of a split as different methods open it.

    Args:
        split: what to open.

    Raises:
        DataError: the folder or the list of frames is missing or broken.
        ConfigError: the reader refuses its keys.
    """

    def __init__(self, split: Split) -> None:
        reader: Any = REGISTRY.get("reader", split.format, where="--format").target
        self.conventions = reader.conventions
        # Training order: every agent takes part, whatever a mode of testing leaves out.
        base = ReaderSettings(split.root, "ROOT", True, _EVERYBODY, skip_broken=True, hypes=split.hypes)
        self.main: Reader = self._open(reader, base)
        self.others: dict[str, Reader] = {}
        if self.conventions.agent_frame_labels:
            self.others[OWN_LABELS] = self._open(reader, replace(base, own_labels=True))
        if self.conventions.cameras:
            self.others[CAMERA_LABELS] = self._open(reader, replace(base, cameras=True, camera_labels=True))

    @staticmethod
    def _open(reader: Any, settings: ReaderSettings) -> Reader:
        with _quiet():
            opened = reader(settings)
            opened.replan(Draws.keyed(0, "check"))
        return opened

    def look(self, index: int, decode: bool) -> FrameLook:
        """Look at one frame; ``decode`` False only asks whether its sensor files exist."""
        try:
            frame = self.main.frame(index)
        except DataError as error:
            return FrameLook(index, troubles=(Trouble(METADATA, BROKEN, f"frame {index}", str(error)),))
        troubles: list[Trouble] = []
        readable = []
        cameras = {agent.id: agent for agent in frame.agents}
        for kind, reader in self.others.items():
            try:
                other = reader.frame(index)
            except DataError as error:
                troubles.append(Trouble(kind, BROKEN, _where(frame), str(error)))
            else:
                readable.append(kind)
                cameras |= {agent.id: agent for agent in other.agents if agent.cameras}
        looks = []
        for agent in frame.agents:
            notes = _Notes(f"{_where(frame)}/{agent.id}")
            seen = replace(agent, cameras=cameras[agent.id].cameras)
            looks.append(_look_at(seen, isinstance(self.main, OPV2VReader), decode, notes))
            troubles += notes.troubles
        return FrameLook(index, frame.scenario, frame.stamp, tuple(looks), tuple(troubles), tuple(readable))


def _where(frame: Frame) -> str:
    return f"{frame.scenario}/{frame.stamp}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Readers log what they leave out; the check reports it itself."""
    logger = logging.getLogger("opencood.data.readers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _look_at(agent: Agent, has_other_sweeps: bool, decode: bool, notes: _Notes) -> AgentLook:
    sweep = _sweep(agent, decode, notes)
    if has_other_sweeps:
        for channels, kind in LINES.items():
            _file(kind, channel_file(agent.lidar.path, channels), notes)
    sizes = _pictures(agent, decode, notes)
    local = transform_points(agent.objects.corners, np.linalg.inv(x_to_world(agent.lidar_pose_clean)))
    odd, far, near = _judge(local)
    near_boxes = local[near & ~odd]
    points = np.zeros((0, 4), np.float32) if sweep is None else sweep
    return AgentLook(
        id=agent.id,
        roadside=agent.roadside,
        pose=tuple(agent.lidar_pose_clean.tolist()),
        states=notes.states,
        classes=_classes(agent.objects),
        odd_sizes=int(odd.sum()),
        out_of_range=int(far.sum()),
        points=None if sweep is None else len(sweep),
        reach=float(np.linalg.norm(points[:, :3], axis=1).max(initial=0)),
        near=len(near_boxes) if sweep is not None else 0,
        hit=_count_hit(points[:, :3], near_boxes),
        hit_mirrored=_count_hit(points[:, :3] * _MIRROR, near_boxes),
        picture_sizes=sizes,
    )


def _sweep(agent: Agent, decode: bool, notes: _Notes) -> NDArray[np.float32] | None:
    path = agent.lidar.path
    try:
        points = agent.lidar.read() if decode else None
    except DataError as error:
        notes.add(LIDAR, BROKEN if files.exists(path) else MISSING, str(error))
        return None
    if decode or files.exists(path):
        notes.add(LIDAR, OK)
    else:
        notes.add(LIDAR, MISSING, str(path))
    return points


def _file(kind: str, path: Path, notes: _Notes) -> None:
    notes.add(kind, OK if files.exists(path) else MISSING, str(path))


def _pictures(agent: Agent, decode: bool, notes: _Notes) -> tuple[tuple[int, int], ...]:
    """Look at all pictures; returns their sizes."""
    wanted = [(CAMERA, camera.image, "RGB") for camera in agent.cameras]
    wanted += [(DEPTH, camera.depth, "L") for camera in agent.cameras if camera.depth is not None]
    if agent.visibility is not None and agent.cameras:
        wanted.append((VISIBILITY, first_existing(agent.visibility.places), "L"))
    sizes = set()
    for kind, path, mode in wanted:
        if not decode or not files.exists(path):
            _file(kind, path, notes)
            continue
        try:
            size = read_picture(path, mode).size
        except DataError as error:
            notes.add(kind, BROKEN, str(error))
        else:
            notes.add(kind, OK)
            if kind == CAMERA:
                sizes.add(size)
    return tuple(sorted(sizes))


def _judge(corners: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """(n,) odd sizes, out of range, nearby: of boxes (n, 8, 3) in the agent's frame."""
    sides = np.linalg.norm(corners[:, [0, 2, 7]] - corners[:, [3]], axis=-1)  # (n, 3) length, width, height
    odd = (sides.min(axis=1, initial=np.inf) < _SIZES[0]) | (sides.max(axis=1, initial=0) > _SIZES[1])
    centres = corners.mean(axis=1)
    distance = np.linalg.norm(centres[:, :2], axis=1)
    far = (distance > _FAR) | (np.abs(centres[:, 2]) > _HIGH)
    return odd, far, distance < _NEAR


def _classes(objects: Objects) -> dict[int, int]:
    labels = np.ones(len(objects.ids), np.int64) if objects.classes is None else objects.classes
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _count_hit(points: NDArray[np.float32], boxes: NDArray[np.float64]) -> int:
    """Boxes with points in them. The lowest quarter does not count: the road under a misplaced box would fill it."""
    boxes = boxes.copy()
    boxes[:, :4] += _ROAD_SHARE * (boxes[:, 4:] - boxes[:, :4])
    close = points[np.abs(points[:, :2]).max(axis=1, initial=0) < _NEAR + _SIZES[1] / 2]
    return int((points_per_box(close, boxes, _MARGIN) > 0).sum())
