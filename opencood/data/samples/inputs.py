"""From an agent's sensors to the inputs of its encoder, and from many such inputs to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.config.pretrain import is_pretraining
from opencood.data.draws import Draws
from opencood.data.frame import Agent
from opencood.data.images import build_image_augmentation
from opencood.data.samples.pretraining import PretrainingInput, pretraining_input
from opencood.data.samples.sensors import (
    CAMERA,
    LIDAR,
    CameraInput,
    LidarCameraInput,
    LidarInput,
    SensorInput,
    build_preprocessor,
    input_source,
    sensors_of,
)
from opencood.data.samples.settings import SampleSettings
from opencood.errors import ConfigError, DataError
from opencood.geometry.points import points_in_range
from opencood.geometry.voxel_groups import VoxelGroups

Part = dict[str, Any]


class Inputs:
    """The inputs of every kind of agent.

    Args:
        by_modality: inputs of each modality; the key None stands for all agents of homogeneous data.
        label_types: which labels agents of a modality contribute.
        read_all_clouds: clouds are read even where no encoder wants them (to draw them).
        crop_range: points outside are not encoded.
    """

    def __init__(
        self,
        by_modality: Mapping[str | None, Sequence[SensorInput]],
        label_types: Mapping[str | None, str],
        read_all_clouds: bool,
        crop_range: Sequence[float] | None = None,
    ) -> None:
        self._crop_range = None if crop_range is None else tuple(crop_range)
        self._by_modality = by_modality
        self._label_types = label_types
        self._read_all_clouds = read_all_clouds
        self._by_key = {sensor.key: sensor for sensors in by_modality.values() for sensor in sensors}

    @property
    def crops(self) -> tuple[tuple[float, ...], ...]:
        """The ranges that points are cut to before they are encoded."""
        return () if self._crop_range is None else (self._crop_range,)

    @property
    def heterogeneous(self) -> bool:
        """Whether agents have modalities."""
        return None not in self._by_modality

    @property
    def by_modality(self) -> Mapping[str | None, Sequence[SensorInput]]:
        """The inputs of each modality; the key None stands for all agents of homogeneous data."""
        return self._by_modality

    def of(self, agent: Agent) -> Sequence[SensorInput]:
        """The inputs of an agent that takes part."""
        return self._by_modality[self._modality(agent)]

    def _modality(self, agent: Agent) -> str | None:
        return agent.modality if self.heterogeneous else None

    def takes_part(self, agent: Agent) -> bool:
        """Whether the agent's modality is one of the configuration."""
        return self._modality(agent) in self._by_modality

    def label_type(self, agent: Agent) -> str:
        """Which labels the agent contributes: ``lidar`` or ``camera``."""
        return self._label_types[self._modality(agent)]

    @property
    def label_types(self) -> frozenset[str]:
        """All kinds of labels that agents contribute."""
        return frozenset(self._label_types.values())

    @property
    def with_cameras(self) -> bool:
        """Whether some agent needs pictures."""
        return any(isinstance(sensor, CameraInput | LidarCameraInput) for sensor in self._by_key.values())

    def lidar_inputs(self) -> dict[str, LidarInput]:
        """The LiDAR inputs by batch key."""
        return {key: sensor for key, sensor in self._by_key.items() if isinstance(sensor, LidarInput)}

    @property
    def wants_owners(self) -> bool:
        """Whether points of a joint cloud must say whose they are (:mod:`opencood.data.samples.pretraining`)."""
        return any(getattr(sensor, "wants_owners", False) for sensor in self._by_key.values())

    def need_lidar(self, what: str) -> None:
        """Refuse a configuration without any LiDAR input.

        Raises:
            ConfigError: there is none; ``what`` needs it.
        """
        if not any(isinstance(sensor, LidarInput | PretrainingInput) for sensor in self._by_key.values()):
            raise ConfigError(f"input_source: {what} needs points, but no agent has a LiDAR input; add lidar.")

    def wants_cloud(self, agent: Agent) -> bool:
        """Whether the agent's cloud must be read."""
        return self._read_all_clouds or any(sensor.sensor == LIDAR for sensor in self.of(agent))

    def encode(
        self,
        agent: Agent,
        points: NDArray[np.float32] | None,
        draws: Draws,
        prepared: Mapping[str, VoxelGroups] | None = None,
    ) -> Part:
        """All inputs of one agent by batch key.

        Args:
            points: (N, 4); None where the cloud was not wanted.
            prepared: voxels made in advance by batch key, which take the place of the points.
        """
        if points is not None and self._crop_range is not None:
            points = points_in_range(points, self._crop_range)
        ready = prepared or {}
        return {sensor.key: sensor.encode(agent, ready.get(sensor.key, points), draws) for sensor in self.of(agent)}

    def collate(self, parts: Sequence[Part]) -> dict[str, Mapping[str, Any]]:
        """Join the inputs of all agents of a batch; a key that no agent has is absent."""
        keys = dict.fromkeys(key for part in parts for key in part)
        return {key: self._by_key[key].collate([part[key] for part in parts if key in part]) for key in keys}


def homogeneous_inputs(settings: SampleSettings) -> Inputs:
    """Every agent has the sensors of ``input_source``.

    Raises:
        ConfigError: cameras are wanted but ``fusion.args.data_aug_conf`` is missing.
    """
    source = input_source(settings.hypes)
    sensors: list[SensorInput] = []
    if LIDAR in source and is_pretraining(settings.hypes):
        sensors.append(pretraining_input("processed_lidar", settings))
    elif LIDAR in source:
        sensors.append(
            LidarInput("processed_lidar", build_preprocessor(settings.hypes["preprocess"], "preprocess", settings))
        )
    if CAMERA in source:
        conf = (settings.hypes["fusion"].get("args") or {}).get("data_aug_conf")
        where = "fusion.args.data_aug_conf"
        if not isinstance(conf, Mapping):  # null and the text None mean that it is not used
            raise ConfigError(f"{where}: missing although input_source has a camera.")
        sensors.append(_camera_input("image_inputs", conf, where, settings))
    return Inputs({None: sensors}, {None: settings.label_type}, settings.visualize, settings.crop_range)


def heterogeneous_inputs(settings: SampleSettings, label_by_sensor: bool = True, also: str | None = None) -> Inputs:
    """Every agent has the sensors of its modality in ``heter.modality_setting``.

    Args:
        also: every agent is encoded a second time, as if it were of this modality (STAMP's protocol).
        label_by_sensor: camera agents contribute what they see (unless all are drawn with LiDAR labels for evaluation);
            otherwise ``label_type`` holds for all.

    Raises:
        ConfigError: a modality is incomplete.
    """
    by_modality: dict[str | None, list[SensorInput]] = {}
    label_types: dict[str | None, str] = {}
    lidar_for_all = settings.visualize and settings.quirk("visualize_lidar_labels")
    modalities = settings.hypes["heter"]["modality_setting"]
    sensors = {name: modality_input(name, setting, settings) for name, setting in modalities.items()}
    for name, setting in modalities.items():
        by_modality[name] = [sensors[one] for one in dict.fromkeys((name, also or name))]
        by_sensor = LIDAR if lidar_for_all or LIDAR in sensors_of(setting) else CAMERA
        label_types[name] = by_sensor if label_by_sensor else settings.label_type
    return Inputs(by_modality, label_types, settings.visualize, settings.crop_range)


def check_points(parts: Sequence[Part], label: str, limits: Sequence[float]) -> None:
    """Refuse a sample without any input: no picture, and no point of any agent in range.

    Raises:
        DataError: so it is.
    """
    inputs = [values for part in parts for values in part.values()]
    if all(len(values.get("voxel_coords", "kept")) == 0 for values in inputs):
        raise DataError(f"{label}: no point of any agent lies in the range {list(limits)}; check clouds and ranges.")


def modality_input(name: str, setting: Mapping[str, Any], settings: SampleSettings) -> SensorInput:
    """What an agent of a modality is encoded from, under the key ``inputs_<name>``.

    Raises:
        ConfigError: the sensor is unknown, or what it needs is missing.
    """
    key, sensors, where = f"inputs_{name}", sensors_of(setting), f"heter.modality_setting.{name}"
    needed = {LIDAR: "preprocess", CAMERA: "data_aug_conf"}
    if not sensors or any(needed[sensor] not in setting for sensor in sensors):
        raise ConfigError(
            f"{where}: expected sensor_type lidar with preprocess, camera with data_aug_conf, or lidar&camera with "
            f"both; found {setting.get('sensor_type')!r}."
        )

    def pictures() -> CameraInput:
        return _camera_input(key, setting["data_aug_conf"], f"{where}.data_aug_conf", settings)

    if LIDAR not in sensors:
        return pictures()
    lidar = LidarInput(key, build_preprocessor(setting["preprocess"], f"{where}.preprocess", settings))
    return LidarCameraInput(key, lidar, pictures()) if CAMERA in sensors else lidar


def _camera_input(key: str, conf: Mapping[str, Any], where: str, settings: SampleSettings) -> CameraInput:
    depth = "depth" in input_source(settings.hypes)
    augmentation = build_image_augmentation(conf, where)
    # Published files list four cameras also where a data set has fewer.
    present = augmentation.cameras[: settings.conventions.cameras]
    return CameraInput(key, replace(augmentation, cameras=present), depth, settings.train)
