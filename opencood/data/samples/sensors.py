"""Which sensors agents have, what each of them gives an encoder, and what turns points into voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from opencood.batch import Deferred
from opencood.config.tree import given
from opencood.data.draws import Draws
from opencood.data.frame import Agent
from opencood.data.images import ImageAugmentation, PendingPictures, camera_inputs
from opencood.data.samples.settings import SampleSettings
from opencood.errors import ConfigError
from opencood.geometry.preprocessors.two_grids import TwoGrids
from opencood.geometry.voxel_groups import VoxelGroups
from opencood.registry import REGISTRY

LIDAR, CAMERA = "lidar", "camera"
Points = NDArray[np.float32] | VoxelGroups | None


class SensorInput(Protocol):
    """One input of an encoder: what it is called in the batch, how it is made and how it is joined."""

    @property
    def key(self) -> str:
        """Name in the batch."""

    @property
    def sensor(self) -> str:
        """``lidar`` or ``camera``."""

    def encode(self, agent: Agent, points: Points, draws: Draws) -> Mapping[str, Any]:
        """The input of one agent."""

    def collate(self, parts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The inputs of several agents, joined."""


@dataclass(frozen=True)
class LidarInput:
    """A cloud, through a preprocessor."""

    key: str
    preprocessor: Any
    sensor: str = LIDAR

    def encode(self, agent: Agent, points: Points, draws: Draws) -> Mapping[str, Any]:
        """Voxels (or what the preprocessor makes) of (N, 4) points, or of points that were put into voxels before."""
        if isinstance(points, VoxelGroups):
            return self.preprocessor.choose(points, draws.numpy)
        return self.preprocessor.preprocess(points, draws.numpy)

    def collate(self, parts: Sequence[Mapping[str, Any]]) -> Mapping[str, torch.Tensor]:
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

    def encode(self, agent: Agent, points: Points, draws: Draws) -> Mapping[str, Any]:
        """Pictures and camera matrices."""
        return camera_inputs(agent, self.augmentation, depth=self.depth, train=self.train, draws=draws)

    def collate(self, parts: Sequence[Mapping[str, Any]]) -> Deferred:
        """Stacked over agents; pictures are normalised when asked for."""
        joined = {key: torch.from_numpy(np.stack([part[key] for part in parts])) for key in parts[0]}
        return Deferred(joined, PendingPictures(joined.pop("imgs")))


@dataclass(frozen=True)
class LidarCameraInput:
    """The cloud and the pictures of an agent under one key; ``lidar`` and ``camera`` are the inputs of each alone."""

    key: str
    lidar: Any
    camera: Any
    sensor: str = LIDAR

    def encode(self, agent: Agent, points: Any, draws: Draws) -> Mapping[str, Any]:
        """``lidar`` and ``camera``, each as it is alone."""
        return {LIDAR: self.lidar.encode(agent, points, draws), CAMERA: self.camera.encode(agent, points, draws)}

    def collate(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``lidar`` and ``camera``, each joined over agents."""
        both = ((LIDAR, self.lidar), (CAMERA, self.camera))
        return {name: sensor.collate([part[name] for part in parts]) for name, sensor in both}


def sensors_of(setting: Mapping[str, Any]) -> frozenset[str]:
    """The sensors that ``sensor_type`` names: ``lidar``, ``camera``, or both as in ``lidar&camera``."""
    written = str(setting.get("sensor_type"))
    return frozenset(sensor for sensor in (LIDAR, CAMERA) if sensor in written)


def input_source(hypes: Mapping[str, Any]) -> frozenset[str]:
    """What is read from disk: some of ``lidar``, ``camera``, ``depth``."""
    return frozenset(hypes.get("input_source", [LIDAR]))


def build_preprocessor(section: Mapping[str, Any], where: str, settings: SampleSettings) -> Any:
    """Build what turns points into the input of an encoder; ``where`` names the section.

    Raises:
        ConfigError: the section lacks a key.
    """
    missing = [key for key in ("core_method", "args", "cav_lidar_range") if key not in section]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(missing)}.")
    context = {"cav_lidar_range": section["cav_lidar_range"], "train": settings.train}
    if "geometry_param" in section:
        context["geometry_param"] = section["geometry_param"]

    def built(name: str, args: Mapping[str, Any]) -> Any:
        return REGISTRY.build("preprocessor", section["core_method"], args, where=f"{where}.{name}", **context)

    fine, coarse = section["args"], given(section, "bev_args")
    if coarse is None:
        return built("args", fine)
    return TwoGrids(built("args", fine), built("bev_args", {**fine, **_caps(coarse)}))  # caps are common unless written


def _caps(coarse: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the coarse grid; its ``max_voxel`` is the cap of training and of tests."""
    rest = {key: value for key, value in coarse.items() if key != "max_voxel"}
    most = coarse.get("max_voxel")
    return rest if most is None else {"max_voxel_train": most, "max_voxel_test": most, **rest}
