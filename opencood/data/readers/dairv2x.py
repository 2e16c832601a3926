"""Reader of DAIR-V2X-C: pairs of a vehicle and a roadside unit (spec data.md, section 2.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import NOTHING, Agent, Camera, Frame, Objects, PointSource
from opencood.data.pcd import read_points
from opencood.data.perturb.timing import ON_TIME, Age
from opencood.data.plausible import in_world
from opencood.data.readers import dairv2x_metadata as metadata
from opencood.data.readers.base import Conventions, ReaderSettings
from opencood.errors import DataError
from opencood.geometry.poses import tfm_to_pose
from opencood.registry import register

_SCENARIO = "dairv2x"
_VEHICLE, _INFRASTRUCTURE = "vehicle", "infrastructure"
# The modality that each side has before heter.mapping_dict is applied: there is no assignment file.
_ASSIGNED = {_VEHICLE: "m1", _INFRASTRUCTURE: "m2"}
_CAMERA_CALIBRATION = {_VEHICLE: "lidar_to_camera", _INFRASTRUCTURE: "virtuallidar_to_camera"}
_INTENSITY_STEPS = 256


@dataclass(frozen=True)
class Pair:
    """One moment: names of the files of both sides, and the correction of the roadside unit's place in metres."""

    names: Mapping[str, str]
    images: Mapping[str, Path]
    clouds: Mapping[str, Path]
    correction: NDArray[np.float64]

    @property
    def stamp(self) -> str:
        """The number of the vehicle's frame, which names the moment."""
        return self.names[_VEHICLE]


@dataclass(frozen=True)
class Role:
    """Who plays one agent of a frame: a side of the pair, with its modality (None in homogeneous data)."""

    side: str
    modality: str | None


@register("reader", "dairv2x")
class DairV2XReader:
    """Frames of the split file ``root_dir`` or ``validate_dir``, whose files lie in ``data_dir``.

    ``data_dir`` defaults to the folder of the split file. Agent 0 is the ego: the vehicle, or in heterogeneous data
    perhaps the roadside unit, which then is agent 0 altogether.
    """

    conventions: ClassVar[Conventions] = Conventions(
        label_margin=1.0, common_ids=False, agent_frame_labels=True, integer_ids=True, cameras=1
    )

    def __init__(self, settings: ReaderSettings) -> None:
        self.settings = settings
        self._folder = Path(str(settings.hypes.get("data_dir") or settings.root.parent))
        self._pairs = self._open()
        self._roles: list[tuple[Role, ...]] = []
        self._ages: dict[str, list[Age]] = {}
        self._history = {side: self._recorded(side) for side in _ASSIGNED} if settings.timing is not None else {}

    def __len__(self) -> int:
        return len(self._pairs)

    def replan(self, draws: Draws, with_modalities: bool = True) -> None:
        """Redraw which side is ego, and the modalities (heterogeneous training only), and how late the other is."""
        modal = self.settings.roster is not None and with_modalities
        if modal and self.settings.train:
            self._roles = [self._drawn_roles(draws) for _ in self._pairs]
        else:
            self._roles = [self._fixed_roles(modal)] * len(self._pairs)
        timing = self.settings.timing
        if timing is not None:
            self._ages = {side: list(timing.ages(_SCENARIO, side, len(self), draws)) for side in _ASSIGNED}

    def frame(self, index: int) -> Frame:
        """Return a frame; point clouds and images are not read yet.

        Raises:
            IndexError: there is no such frame.
            DataError: a calibration or label file is missing or broken.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        pair, roles = self._pairs[index], self._roles[index][: self.settings.max_cav]
        agents = tuple(self._agent(index, role, number) for number, role in enumerate(roles))
        return Frame(index, _SCENARIO, pair.stamp, agents)

    # Who is who

    def _drawn_roles(self, draws: Draws) -> tuple[Role, ...]:
        """Training: each side leads half of the frames; modalities go by position."""
        roster = self.settings.roster
        assert roster is not None
        sides = [_VEHICLE, _INFRASTRUCTURE]
        if draws.python.random() < 0.5:
            sides.reverse()
        return tuple(Role(side, roster.modality(_SCENARIO, sides, place, draws)) for place, side in enumerate(sides))

    def _fixed_roles(self, modal: bool) -> tuple[Role, ...]:
        """Testing: the roadside unit leads where its modality may be ego and that of the vehicle may not.

        A pair of modalities begins with the vehicle.
        """
        roster = self.settings.roster
        if roster is None or not modal:
            return Role(_VEHICLE, None), Role(_INFRASTRUCTURE, None)
        if roster.pair:
            return tuple(Role(side, modality) for side, modality in zip(_ASSIGNED, roster.pair, strict=True))
        roles = tuple(Role(side, roster.mapped(name)) for side, name in _ASSIGNED.items())
        vehicle_may, infrastructure_may = (role.modality in roster.ego_modalities for role in roles)
        return roles[::-1] if infrastructure_may and not vehicle_may else roles

    # What an agent has

    def _agent(self, index: int, role: Role, number: int) -> Agent:
        side, settings, pair = role.side, self.settings, self._pairs[index]
        age = self._ages[side][index] if self._ages and number else ON_TIME
        late = self._earlier(pair, side, age.sensor)
        seen = pair if settings.pose_only else late
        believed = self._earlier(pair, side, age.pose)
        pose = self._pose(pair, side)
        return Agent(
            id=str(number),
            lidar_pose=pose if believed is pair else self._pose(believed, side),
            lidar_pose_clean=pose if seen is pair else self._pose(seen, side),
            objects=self._objects(pair, side, pose, for_camera=False),
            lidar=PointSource(seen.clouds[side], read_scaled_cloud if settings.published else read_cloud),
            modality=role.modality,
            roadside=side == _INFRASTRUCTURE,
            cameras=(self._camera(seen, side),) if settings.cameras else (),
            camera_objects=self._objects(pair, side, pose, for_camera=True) if settings.camera_labels else None,
            delay=age.frames if late is not pair else 0,
        )

    def _earlier(self, pair: Pair, side: str, age: float) -> Pair:
        """The pair in which one side's files are those of an observation of some age."""
        name = self._history[side].earlier(pair.names[side], age) if age else pair.names[side]
        if name == pair.names[side]:
            return pair
        return replace(
            pair,
            names={**pair.names, side: name},
            images={**pair.images, side: pair.images[side].with_stem(name)},
            clouds={**pair.clouds, side: pair.clouds[side].with_stem(name)},
        )

    def _pose(self, pair: Pair, side: str) -> NDArray[np.float64]:
        return tfm_to_pose(self._to_world(pair, side))

    def _recorded(self, side: str) -> metadata.History:
        return metadata.History(self._folder / f"{side}-side" / "data_info.json")

    def _to_world(self, pair: Pair, side: str) -> NDArray[np.float64]:
        """(4, 4) from the LiDAR of a side to the world."""
        name = pair.names[side]
        if side == _VEHICLE:
            return metadata.transform(self._calibration(side, "novatel_to_world", name)) @ metadata.transform(
                self._calibration(side, "lidar_to_novatel", name)
            )
        to_world = metadata.transform(self._calibration(side, "virtuallidar_to_world", name))
        to_world[:2, 3] += pair.correction
        return to_world

    def _camera(self, pair: Pair, side: str) -> Camera:
        name = pair.names[side]
        to_camera = metadata.transform(self._calibration(side, _CAMERA_CALIBRATION[side], name))
        return Camera(
            to_lidar=np.linalg.inv(to_camera).astype(np.float32),
            intrinsic=metadata.intrinsic(self._calibration(side, "camera_intrinsic", name)),
            image=pair.images[side],
        )

    def _objects(self, pair: Pair, side: str, pose: NDArray[np.float64], for_camera: bool) -> Objects:
        """What a side lists; lists for both sides together hang on the vehicle."""
        if not self.settings.labels:
            return NOTHING
        if self.settings.own_labels:
            return metadata.own_objects(self._own_labels(pair, side, for_camera), pose)
        if side == _INFRASTRUCTURE:
            return NOTHING
        kind = "label_world_backup" if for_camera else "label_world"
        return metadata.common_objects(self._folder / "cooperative" / kind / f"{pair.stamp}.json")

    def _own_labels(self, pair: Pair, side: str, for_camera: bool) -> Path:
        if side == _INFRASTRUCTURE:
            kind = "virtuallidar"
        else:
            kind = "lidar_backup" if for_camera else "lidar"
        return self._folder / f"{side}-side" / "label" / kind / f"{pair.names[side]}.json"

    def _calibration(self, side: str, kind: str, name: str) -> Path:
        return self._folder / f"{side}-side" / "calib" / kind / f"{name}.json"

    # Which frames there are

    def _open(self) -> list[Pair]:
        settings = self.settings
        names = metadata.load(settings.root, f"{settings.root_key}: ")
        if not isinstance(names, list) or not names:
            raise DataError(f"{settings.root_key}: '{settings.root}' must be a list of vehicle frames such as 015000.")
        info = self._folder / "cooperative" / "data_info.json"
        known = self._known(metadata.load(info, "data_dir: "), info)
        missing = [str(name) for name in names if str(name) not in known]
        if missing:
            raise DataError(
                f"{settings.root_key}: {len(missing)} frame(s) of '{settings.root}' are not in {info} "
                f"(first: {missing[0]}); do data_dir and the split belong together?"
            )
        return [known[str(name)] for name in names]

    def _known(self, entries: Any, info: Path) -> dict[str, Pair]:
        try:
            pairs = [self._pair(entry) for entry in entries]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{info}: an entry lacks {error}; expected the data_info.json of DAIR-V2X-C.") from error
        return {pair.stamp: pair for pair in pairs}

    def _pair(self, entry: Mapping[str, Any]) -> Pair:
        sides = (_VEHICLE, _INFRASTRUCTURE)
        images = {side: self._folder / entry[f"{side}_image_path"] for side in sides}
        clouds = {side: self._folder / entry[f"{side}_pointcloud_path"] for side in sides}
        offset = entry.get("system_error_offset") or {}
        correction = np.array([float(offset.get(key) or 0) for key in ("delta_x", "delta_y")])
        in_world(correction, "system_error_offset")
        return Pair({side: images[side].stem for side in sides}, images, clouds, correction)


def read_scaled_cloud(path: Path) -> NDArray[np.float32]:
    """Return the (N, 4) cloud with its intensity over 256, as published weights saw it, whatever the side."""
    return _scaled(read_points(path, drop_invalid=True))


def read_cloud(path: Path) -> NDArray[np.float32]:
    """Return the (N, 4) cloud with an intensity of at most 1: roadside files already have it, vehicle files do not."""
    cloud = read_points(path, drop_invalid=True)
    return cloud if cloud[:, 3].max() <= 1 else _scaled(cloud)


def _scaled(cloud: NDArray[np.float32]) -> NDArray[np.float32]:
    factors: Sequence[float] = (1, 1, 1, 1 / _INTENSITY_STEPS)
    return cloud * np.array(factors, np.float32)
