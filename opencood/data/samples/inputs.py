"""From an agent's sensors to the inputs of its encoder, and from many such inputs to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.data.draws import Draws
from opencood.data.frame import Agent
from opencood.data.images import ImageAugmentation, build_image_augmentation, camera_inputs, image_planes
from opencood.data.samples.settings import SampleSettings
from opencood.errors import ConfigError, DataError
from opencood.registry import REGISTRY

Part = dict[str, Any]
LIDAR, CAMERA = "lidar", "camera"


class SensorInput(Protocol):
    """One input of an encoder: what it is called in the batch, how it is made and how it is joined."""

    @property
    def key(self) -> str:
        """Name in the batch."""

    @property
    def sensor(self) -> str:
        """``lidar`` or ``camera``."""

    def encode(self, agent: Agent, points: NDArray[np.float32] | None, draws: Draws) -> Mapping[str, Any]:
        """The input of one agent."""

    def collate(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The inputs of several agents, joined."""


@dataclass(frozen=True)
class LidarInput:
    """A cloud, through a preprocessor."""

    key: str
    preprocessor: Any
    sensor: str = LIDAR

    def encode(self, agent: Agent, points: NDArray[np.float32] | None, draws: Draws) -> Mapping[str, Any]:
        """Voxels (or what the preprocessor makes) of (N, 4) points."""
        return self.preprocessor.preprocess(points, draws.numpy)

    def collate(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Voxels of several clouds with the cloud's index in front of their coordinates."""
        return self.preprocessor.collate(parts)


@dataclass(frozen=True)
class CameraInput:
    """The pictures of an agent."""

    key: str
    augmentation: ImageAugmentation
    depth: bool
    train: bool
    sensor: str = CAMERA

    def encode(self, agent: Agent, points: NDArray[np.float32] | None, draws: Draws) -> Mapping[str, Any]:
        """Pictures and camera matrices."""
        return camera_inputs(agent, self.augmentation, depth=self.depth, train=self.train, draws=draws)

    def collate(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Stacked over agents, pictures normalised."""
        joined = {key: np.stack([part[key] for part in parts]) for key in parts[0] if key != "imgs"}
        planes = image_planes([part["imgs"] for part in parts])
        return {"imgs": torch.from_numpy(planes)} | {key: torch.from_numpy(values) for key, values in joined.items()}


class Inputs:
    """The inputs of every kind of agent.

    Args:
        by_modality: inputs of each modality; the key None stands for all agents of homogeneous data.
        label_types: which labels agents of a modality contribute.
        read_all_clouds: clouds are read even where no encoder wants them (to draw them).
    """

    def __init__(
        self,
        by_modality: Mapping[str | None, Sequence[SensorInput]],
        label_types: Mapping[str | None, str],
        read_all_clouds: bool,
    ) -> None:
        self._by_modality = by_modality
        self._label_types = label_types
        self._read_all_clouds = read_all_clouds
        self._by_key = {sensor.key: sensor for sensors in by_modality.values() for sensor in sensors}

    @property
    def heterogeneous(self) -> bool:
        """Whether agents have modalities."""
        return None not in self._by_modality

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

    def lidar_inputs(self) -> dict[str, LidarInput]:
        """The LiDAR inputs by batch key."""
        return {key: sensor for key, sensor in self._by_key.items() if isinstance(sensor, LidarInput)}

    def need_lidar(self, what: str) -> None:
        """Refuse a configuration without any LiDAR input.

        Raises:
            ConfigError: there is none; ``what`` needs it.
        """
        if not self.lidar_inputs():
            raise ConfigError(f"input_source: {what} needs points, but no agent has a LiDAR input; add lidar.")

    def wants_cloud(self, agent: Agent) -> bool:
        """Whether the agent's cloud must be read."""
        sensors = self._by_modality[self._modality(agent)]
        return self._read_all_clouds or any(sensor.sensor == LIDAR for sensor in sensors)

    def encode(self, agent: Agent, points: NDArray[np.float32] | None, draws: Draws) -> Part:
        """All inputs of one agent by batch key; ``points`` (N, 4) are None where the cloud was not wanted."""
        sensors = self._by_modality[self._modality(agent)]
        return {sensor.key: sensor.encode(agent, points, draws) for sensor in sensors}

    def collate(self, parts: Sequence[Part]) -> dict[str, dict[str, torch.Tensor]]:
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
    if LIDAR in source:
        sensors.append(
            LidarInput("processed_lidar", _preprocessor(settings.hypes["preprocess"], "preprocess", settings))
        )
    if CAMERA in source:
        conf = (settings.hypes["fusion"].get("args") or {}).get("data_aug_conf")
        where = "fusion.args.data_aug_conf"
        if not isinstance(conf, Mapping):  # null and the text None mean that it is not used
            raise ConfigError(f"{where}: missing although input_source has a camera.")
        sensors.append(_camera_input("image_inputs", conf, where, settings))
    return Inputs({None: sensors}, {None: settings.label_type}, settings.visualize)


def heterogeneous_inputs(settings: SampleSettings, label_by_sensor: bool = True) -> Inputs:
    """Every agent has the sensors of its modality in ``heter.modality_setting``.

    Args:
        label_by_sensor: camera agents contribute what they see (unless all are drawn with LiDAR labels for evaluation);
            otherwise ``label_type`` holds for all.

    Raises:
        ConfigError: a modality is incomplete.
    """
    by_modality: dict[str | None, list[SensorInput]] = {}
    label_types: dict[str | None, str] = {}
    lidar_for_all = settings.visualize and settings.quirk("visualize_lidar_labels")
    for name, setting in settings.hypes["heter"]["modality_setting"].items():
        where = f"heter.modality_setting.{name}"
        by_modality[name] = [_heterogeneous_input(name, setting, where, settings)]
        by_sensor = LIDAR if lidar_for_all else setting["sensor_type"]
        label_types[name] = by_sensor if label_by_sensor else settings.label_type
    return Inputs(by_modality, label_types, settings.visualize)


def check_points(parts: Sequence[Part], label: str, limits: Sequence[float]) -> None:
    """Refuse a sample without any input: no picture, and no point of any agent in range.

    Raises:
        DataError: so it is.
    """
    inputs = [values for part in parts for values in part.values()]
    if all(len(values.get("voxel_coords", "kept")) == 0 for values in inputs):
        raise DataError(f"{label}: no point of any agent lies in the range {list(limits)}; check clouds and ranges.")


def input_source(hypes: Mapping[str, Any]) -> frozenset[str]:
    """What is read from disk: some of ``lidar``, ``camera``, ``depth``."""
    return frozenset(hypes.get("input_source", [LIDAR]))


def _heterogeneous_input(name: str, setting: Mapping[str, Any], where: str, settings: SampleSettings) -> SensorInput:
    key, sensor = f"inputs_{name}", setting.get("sensor_type")
    if sensor == LIDAR and "preprocess" in setting:
        return LidarInput(key, _preprocessor(setting["preprocess"], f"{where}.preprocess", settings))
    if sensor == CAMERA and "data_aug_conf" in setting:
        return _camera_input(key, setting["data_aug_conf"], f"{where}.data_aug_conf", settings)
    raise ConfigError(
        f"{where}: expected sensor_type lidar with preprocess, or camera with data_aug_conf; found {sensor!r}."
    )


def _camera_input(key: str, conf: Mapping[str, Any], where: str, settings: SampleSettings) -> CameraInput:
    depth = "depth" in input_source(settings.hypes)
    augmentation = build_image_augmentation(conf, where)
    # Published files list four cameras also where a data set has fewer.
    present = augmentation.cameras[: settings.conventions.cameras]
    return CameraInput(key, replace(augmentation, cameras=present), depth, settings.train)


def _preprocessor(section: Mapping[str, Any], where: str, settings: SampleSettings) -> Any:
    missing = [key for key in ("core_method", "args", "cav_lidar_range") if key not in section]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}.")
    context = {"cav_lidar_range": section["cav_lidar_range"], "train": settings.train}
    if "geometry_param" in section:
        context["geometry_param"] = section["geometry_param"]
    return REGISTRY.build("preprocessor", section["core_method"], section["args"], where=f"{where}.args", **context)
