"""Presets: how much is simulated, how crowded and how fine; and the scenarios that a preset and a seed stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from opencood.errors import ConfigError, nearest
from opencood.simulation.camera.model import CameraModel
from opencood.simulation.lidar import LidarModel
from opencood.simulation.scenario import SENSOR_HEIGHT, ScenarioPlan

SPLITS = ("train", "validate", "test")
_FIRST_DAY = {
    "train": datetime(2021, 8, 16, 8, 0),
    "validate": datetime(2021, 8, 26, 8, 0),
    "test": datetime(2021, 8, 28, 8, 0),
}


@dataclass(frozen=True)
class Preset:
    """One size of data set.

    Attributes:
        scenarios: scenarios of train, validate, test.
        frames: frames per scenario, ``stride`` ticks (of 0.1 s) apart.
        agents: smallest and largest number of connected cars.
        roadside: number of roadside units in each scenario.
        vehicles, pedestrians: smallest and largest number of movers.
        camera: the cameras, where cameras are asked for.
        cameras: whether the agents have cameras.
        fewer_beams: numbers of beams of further LiDARs at the same place.
        road_type, sensor_height: see ``scenario.ScenarioPlan``.
    """

    summary: str
    scenarios: tuple[int, int, int]
    frames: int
    stride: int
    lidar: LidarModel
    agents: tuple[int, int] = (2, 5)
    roadside: int = 0
    vehicles: tuple[int, int] = (16, 24)
    pedestrians: tuple[int, int] = (4, 10)
    camera: CameraModel = CameraModel(320, 240)
    cameras: bool = False
    fewer_beams: tuple[int, ...] = ()
    road_type: str = "mixed"
    sensor_height: float = SENSOR_HEIGHT


PRESETS: dict[str, Preset] = {
    "mini": Preset(
        "a few frames in seconds, for tests",
        scenarios=(2, 1, 2), frames=2, stride=10, lidar=LidarModel(beams=16, azimuths=600), agents=(2, 3),
    ),
    "small": Preset(
        "the demo: many short scenarios, so that few frames show much variety",
        scenarios=(48, 6, 34), frames=2, stride=20, lidar=LidarModel(beams=32, azimuths=900), agents=(3, 4),
    ),
    "opv2v": Preset(
        "the sensor and frame rate of OPV2V, 10 frames a second; about 5 GB",
        scenarios=(16, 3, 8), frames=40, stride=1, lidar=LidarModel(beams=64, azimuths=1800),
        camera=CameraModel(),
    ),
}  # fmt: skip


def find_preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"--preset: unknown '{name}'.{nearest(name, PRESETS)} Valid names: {', '.join(PRESETS)}.")
    return PRESETS[name]


def scenario_plans(preset: Preset, seed: int) -> list[ScenarioPlan]:
    """Plans of all scenarios of all splits; no two share a generator, so no two splits share a world."""
    places = [
        (split, number, index) for number, split in enumerate(SPLITS) for index in range(preset.scenarios[number])
    ]
    return [
        ScenarioPlan(
            split=split,
            name=_scenario_name(split, index),
            seed=(seed, number, index),
            frames=preset.frames,
            stride=preset.stride,
            agents=preset.agents,
            roadside=preset.roadside,
            vehicles=preset.vehicles,
            pedestrians=preset.pedestrians,
            lidar=preset.lidar,
            camera=preset.camera if preset.cameras else None,
            fewer_beams=preset.fewer_beams,
            first=before * preset.frames,
            road_type=preset.road_type,
            sensor_height=preset.sensor_height,
        )
        for before, (split, number, index) in enumerate(places)
    ]


def with_beams(preset: Preset, beams: int) -> Preset:
    """The preset with another number of LiDAR beams."""
    return replace(preset, lidar=replace(preset.lidar, beams=beams))


def _scenario_name(split: str, index: int) -> str:
    """A date as in OPV2V's names, ascending with the index and different in every split."""
    return (_FIRST_DAY[split] + index * timedelta(minutes=11, seconds=7)).strftime("%Y_%m_%d_%H_%M_%S")
