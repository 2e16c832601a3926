"""Which sensors agents have, agents with LiDAR and cameras together, and what turns points into voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from opencood.config.tree import given
from opencood.data.draws import Draws
from opencood.data.frame import Agent
from opencood.data.samples.settings import SampleSettings
from opencood.errors import ConfigError
from opencood.geometry.preprocessors.two_grids import TwoGrids
from opencood.registry import REGISTRY

LIDAR, CAMERA = "lidar", "camera"


@dataclass(frozen=True)
class LidarCameraInput:
    """The cloud and the pictures of an agent under one key; ``lidar`` and ``camera`` are the inputs of each alone."""

    key: str
    lidar: Any
    camera: Any
    sensor: str = LIDAR

    def encode(self, agent: Agent, points: NDArray | None, draws: Draws) -> Mapping[str, Any]:
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
    return TwoGrids(built("args", fine), built("bev_args", {**fine, **coarse}))  # caps are common unless written again
