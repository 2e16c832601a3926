"""Voxels that a packed data set holds ready, in the place of clouds that are read, shuffled, cut and grouped."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from opencood.data import files
from opencood.data.draws import Draws
from opencood.data.frame import Agent, PointSource
from opencood.data.packed.prepared import Preparation, Range, decoder_name, preparation
from opencood.data.samples.inputs import Inputs
from opencood.data.samples.sensors import LIDAR, LidarCameraInput, LidarInput, SensorInput
from opencood.data.samples.settings import SampleSettings
from opencood.geometry.preprocessors import SpVoxelPreprocessor
from opencood.geometry.voxel_groups import VoxelGroups


class PreparedVoxels:
    """What the samples of a configuration take from a packed data set.

    Args:
        settings: of the samples; ``use_prepared: false`` switches prepared voxels off.
        inputs: of the agents.
        crops: ranges that clouds are cut to before they are encoded.
        needs_clouds: why samples need the points themselves; empty: they do not.

    Attributes:
        wanted: whether they are to be used.
        obstacle: why they cannot be used; empty: they can.
        lidars: the inputs that they can serve, by modality (None in homogeneous data).
        crops: as given.
    """

    def __init__(self, settings: SampleSettings, inputs: Inputs, crops: Sequence[Range], needs_clouds: str) -> None:
        self.wanted = bool(settings.hypes.get("use_prepared", True))
        self.crops = tuple(crops)
        self.lidars = {name: list(_grids(sensors)) for name, sensors in inputs.by_modality.items()}
        self.obstacle = needs_clouds
        if not any(self.lidars.values()):
            self.obstacle = needs_clouds or "no agent has a LiDAR with preprocess.core_method: SpVoxelPreprocessor"
        self._inputs = inputs

    def of(self, agent: Agent, draws: Draws) -> dict[str, VoxelGroups] | None:
        """The voxels of an agent's cloud by batch key; None where the cloud must be read.

        Draws that were given from outside follow the published order, which shuffles every cloud.

        Raises:
            DataError: the packed data set is unfinished, damaged or out of date.
        """
        if not self.wanted or self.obstacle or not draws.key:
            return None
        found = {}
        for sensor in self._inputs.of(agent):
            if sensor.sensor == LIDAR:
                groups = self._of(lidar_of(sensor), agent.lidar)
                if groups is None:
                    return None
                found[sensor.key] = groups
        return found or None

    def preparation(self, lidar: LidarInput, decoder: str) -> Preparation:
        """How clouds that a function reads become the voxels of one of ``lidars``."""
        grid = lidar.preprocessor
        return preparation(decoder, self.crops, grid.cav_lidar_range, grid.voxel_size)

    def missing(self, made: Sequence[Mapping[str, str]]) -> str:
        """Return how what was prepared (the options of each store) differs from what is needed; empty: it does not."""
        differences = (self._difference(lidar, made) for lidars in self.lidars.values() for lidar in lidars)
        return next(filter(None, differences), "")

    def _of(self, lidar: LidarInput | None, source: PointSource) -> VoxelGroups | None:
        decoder = decoder_name(source.decode)
        if decoder is None or lidar is None or not isinstance(lidar.preprocessor, SpVoxelPreprocessor):
            return None
        return files.prepared(source.path, self.preparation(lidar, decoder).key)

    def _difference(self, lidar: LidarInput, made: Sequence[Mapping[str, str]]) -> str:
        """How the nearest preparation differs."""
        nearest: list[str] | None = None
        for there in made:
            decoder = there.get("decode", "")
            if decoder.rpartition(".")[0] not in sys.modules:  # a plugin that is not used here
                continue
            here = asdict(self.preparation(lidar, decoder))
            words = [f"{key} {there.get(key)} there, {here[key]} here" for key in here if there.get(key) != here[key]]
            nearest = words if nearest is None else min(nearest, words, key=len)
        return "clouds were read by other code" if nearest is None else "; ".join(nearest)


def lidar_of(sensor: SensorInput) -> LidarInput | None:
    """The LiDAR in an input, alone or beside cameras."""
    inner = sensor.lidar if isinstance(sensor, LidarCameraInput) else sensor
    return inner if isinstance(inner, LidarInput) else None


def _grids(sensors: Sequence[SensorInput]) -> Iterator[LidarInput]:
    """The LiDARs whose points go into one plain grid."""
    for lidar in filter(None, map(lidar_of, sensors)):
        if isinstance(lidar.preprocessor, SpVoxelPreprocessor):
            yield lidar
