"""Reader of V2X-Sim 2.0: frames in pickle files made by its converter (spec data.md, section 2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from opencood.data import files
from opencood.data.cuboids import cuboid_corners
from opencood.data.draws import Draws
from opencood.data.frame import NOTHING, Agent, Frame, Objects, PointSource
from opencood.data.pcd import read_bin
from opencood.data.perturb.timing import ON_TIME, Age
from opencood.data.pictures import first_existing
from opencood.data.plausible import in_world, rigid, sides
from opencood.data.readers.base import Conventions, ReaderSettings
from opencood.data.safe_pickle import load_pickle
from opencood.data.stamps import Recording
from opencood.errors import ConfigError, DataError
from opencood.geometry.poses import tfm_to_pose
from opencood.registry import register

_SCENARIO = "v2xsim"
_MODALITY = "m1"
_PUBLISHED_FOLDER = "v2xsim2-complete"  # the paths in the published files start on somebody's cluster, at this folder
_LOCAL_FOLDER = Path("dataset/V2X-Sim-2.0")
_FOLDERS_ABOVE = 3  # folders around the pickle in which relative paths are looked up
_BOX_COLUMNS = 10


@register("reader", "v2xsim")
class V2XSimReader:
    """Frames of a file ``v2xsim_infos_<split>.pkl``; LiDAR only.

    A stored path is taken through ``path_prefixes`` of the hypes ({stored prefix: folder}), then looked up in the
    working directory, in the folder of the pickle and in the three folders above it.
    """

    conventions: ClassVar[Conventions] = Conventions(label_margin=1.0)

    def __init__(self, settings: ReaderSettings) -> None:
        if settings.cameras or settings.camera_labels:
            raise ConfigError("fusion.dataset: v2xsim has neither images nor camera labels; use lidar for both.")
        self.settings = settings
        self._prefixes: Mapping[str, str] = settings.hypes.get("path_prefixes") or {}
        self._infos = self._open()
        self._orders: list[list[int]] = []
        self._ages: list[list[Age]] = []
        self._recording = self._timed() if settings.timing is not None else None

    def __len__(self) -> int:
        return len(self._infos)

    def replan(self, draws: Draws, with_modalities: bool = True) -> None:
        """Redraw the order of agents (training only), and how late they are."""
        self._orders = []
        for info in self._infos:
            order = list(range(1, int(info["agent_num"]) + 1))
            if self.settings.train:
                draws.python.shuffle(order)
            self._orders.append(order[: self.settings.max_cav])
        timing, most = self.settings.timing, max(map(max, self._orders))
        if timing is not None:
            numbers = range(1, most + 1)
            self._ages = [list(timing.ages(_SCENARIO, str(number), len(self), draws)) for number in numbers]

    def frame(self, index: int) -> Frame:
        """Return a frame; point clouds are not read yet.

        Raises:
            IndexError: there is no such frame.
            DataError: an agent of the frame lacks a key or has numbers of another shape.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        info = self._infos[index]
        try:
            agents = tuple(self._agent(index, number) for number in self._orders[index])
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            reason = f"missing key {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{self.settings.root}: frame {index}: {reason}.") from error
        return Frame(index, _SCENARIO, str(info.get("token", index)), agents)

    def _agent(self, index: int, number: int) -> Agent:
        age = self._ages[number - 1][index] if self._ages and number != self._orders[index][0] else ON_TIME
        late = self._earlier(index, number, age.sensor)
        believed, pose = self._pose(self._earlier(index, number, age.pose), number), self._pose(late, number)
        seen = self._infos[index if self.settings.pose_only else late]
        return Agent(
            id=str(number),
            lidar_pose=believed,
            lidar_pose_clean=self._pose(index, number) if self.settings.pose_only else pose,
            objects=_objects(self._infos[index][f"labels_{number}"]) if self.settings.labels else NOTHING,
            lidar=PointSource(
                first_existing(self._places(seen[f"lidar_path_{number}"])), read_sweep, listed_in=self.settings.root
            ),
            modality=self._modality(number),
            delay=index - late,
        )

    def _modality(self, number: int) -> str | None:
        """Published: every agent is m1. Ours: the names of ``heter.mapping_dict`` in turn, mapped, as tables do it."""
        roster = self.settings.roster
        if roster is not None and roster.pair:
            return roster.pair[number > 1]
        if roster is None or self.settings.published or not roster.mapping:
            return _MODALITY if roster is not None else None
        names = sorted(roster.mapping)
        return roster.mapped(names[(number - 1) % len(names)])

    def _pose(self, index: int, number: int) -> NDArray[np.float64]:
        key = f"lidar_pose_{number}"
        return tfm_to_pose(rigid(np.asarray(self._infos[index][key], np.float64).reshape(4, 4), key))

    def _earlier(self, index: int, number: int, age: float) -> int:
        """The frame that an observation of some age comes from; never one before the agent appeared in its scene."""
        if self._recording is None or age == 0:
            return index
        place = self._recording.earlier(index, age)
        return next(at for at in range(place, index + 1) if int(self._infos[at]["agent_num"]) >= number)

    def _timed(self) -> Recording:
        try:
            return Recording([info["timestamp"] for info in self._infos])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.settings.root}: delay and asynchrony need a number 'timestamp' in every frame ({error}); "
                "switch them off."
            ) from error

    def _places(self, stored: str) -> list[Path]:
        """Where a stored path may lie, most likely first."""
        path = self._relocated(str(stored))
        if path.is_absolute():
            return [path]
        around = self.settings.root.resolve().parents[:_FOLDERS_ABOVE]
        return [path, *(folder / path for folder in around)]

    def _relocated(self, stored: str) -> Path:
        for prefix, folder in self._prefixes.items():
            if stored.startswith(prefix):
                return Path(folder) / stored[len(prefix) :].lstrip("/")
        parts = PurePosixPath(stored).parts
        if _PUBLISHED_FOLDER in parts:
            return _LOCAL_FOLDER.joinpath(*parts[parts.index(_PUBLISHED_FOLDER) + 1 :])
        return Path(stored)

    def _open(self) -> list[Mapping[str, Any]]:
        settings = self.settings
        infos = load_pickle(settings.root, f"{settings.root_key}: ")
        if not isinstance(infos, list) or not infos or not all(_has_agents(info) for info in infos):
            raise DataError(
                f"{settings.root_key}: '{settings.root}' must be a list of frames with 'agent_num'; "
                "give a v2xsim_infos_<split>.pkl."
            )
        return infos


def read_sweep(path: Path) -> NDArray[np.float32]:
    """Return the (N, 4) cloud of a ``.bin`` file of five columns.

    Raises:
        DataError: it is missing or broken.
    """
    if not files.is_file(path):
        raise DataError(
            f"lists the sweep '{path}', which is neither in the working directory nor around this file; is the data "
            "set complete? path_prefixes: {stored prefix: folder} says where sweeps lie."
        )
    return read_bin(path, columns=5)


def _has_agents(info: Any) -> bool:
    """Whether a frame says how many agents it has; each has keys of its own."""
    count = info.get("agent_num") if isinstance(info, Mapping) else None
    return isinstance(count, int | np.integer) and 0 < int(count) <= len(info)


def _objects(labels: Mapping[str, Any]) -> Objects:
    boxes = np.asarray(labels["gt_boxes_global"], np.float64).reshape(-1, _BOX_COLUMNS)
    listed = np.asarray(labels["gt_object_ids"]).reshape(-1)
    if not np.isfinite(np.asarray(listed, np.float64)).all():
        raise ValueError("gt_object_ids must be numbers")
    ids = listed.astype(np.int64)
    if len(ids) != len(boxes):
        raise ValueError(f"{len(boxes)} boxes and {len(ids)} ids must go together")
    sides(in_world(boxes, "gt_boxes_global")[:, 3:6], "sides in gt_boxes_global")
    if not np.linalg.norm(boxes[:, 6:], axis=1).all():
        raise ValueError("a quaternion in gt_boxes_global is zero")
    to_world = np.tile(np.eye(4), (len(boxes), 1, 1))
    to_world[:, :3, :3] = _rotations(boxes[:, 6:])
    to_world[:, :3, 3] = boxes[:, :3]
    return Objects(ids, cuboid_corners(boxes[:, 3:6] / 2, to_world))


def _rotations(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3) of (n, 4) quaternions ``w, x, y, z``, not necessarily of length one."""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
