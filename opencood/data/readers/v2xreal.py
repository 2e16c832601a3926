"""Reader of V2X-Real: the OPV2V tree with raw clouds and several classes (spec gencomm.md 8, coopre.md 11.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from opencood.config.flavor import flavor_of, quirk
from opencood.data import files
from opencood.data.draws import Draws
from opencood.data.frame import PointSource, is_roadside
from opencood.data.pcd import read_bin, read_points
from opencood.data.readers.base import Conventions, ReaderSettings
from opencood.data.readers.opv2v import OPV2VReader, beside
from opencood.data.readers.opv2v_metadata import Dialect
from opencood.errors import ConfigError, DataError, nearest
from opencood.registry import register

_VEHICLES = ("LongVehicle", "Car", "PoliceCar")
_PEDESTRIANS = (
    "Child", "RoadWorker", "Pedestrian", "Scooter", "ScooterRider", "Motorcycle", "MotorcyleRider", "BicycleRider",
)  # fmt: skip
_TRUCKS = ("Truck", "Van", "TrashCan", "ConcreteTruck", "Bus")
# Classes count from 1; the rider of a motorcycle is misspelt in the files.
_CLASS_OF_TYPE = {
    name: label for label, names in enumerate((_VEHICLES, _PEDESTRIANS, _TRUCKS), start=1) for name in names
}
# Mode -> which kinds of agents take part, in their order: False are vehicles, True roadside units.
_MODES: dict[str, tuple[bool, ...]] = {"vc": (False, True), "ic": (True, False), "v2v": (False,), "i2i": (True,)}
_DEFAULT_MODE = "vc"
_VEHICLES_ONLY_DAY = "2023-04-07"  # its scenarios are evaluated in mode v2v only


def class_of_entry(entry: Mapping[str, Any]) -> int:
    """Return the class of an object, counted from 1, or 0 for one that belongs to none."""
    return _CLASS_OF_TYPE.get(str(entry["obj_type"]), 0)


@register("reader", "v2xreal")
class V2XRealReader(OPV2VReader):
    """Frames of a folder ``<scenario>/<agent>/<stamp>.{yaml,bin}``; in testing ``dataset_mode`` chooses the agents."""

    conventions: ClassVar[Conventions] = Conventions(
        label_margin=0.0,
        label_corners=2,
        default_max_cav=4,
        default_gt_range=(-100, -40, -15, 100, 40, 15),
    )
    dialect = Dialect("v2xreal", class_of=class_of_entry)

    def __init__(self, settings: ReaderSettings) -> None:
        self._mode = str(settings.hypes.get("dataset_mode") or _DEFAULT_MODE).lower()
        if self._mode not in _MODES:
            raise ConfigError(
                f"dataset_mode: '{self._mode}' is none of {', '.join(_MODES)}.{nearest(self._mode, _MODES)}"
            )
        asked = (settings.hypes.get("train_params") or {}).get("random_ego")
        usual = quirk(settings.hypes, "default_random_ego")
        self._random_ego = settings.train and bool(usual if asked is None else asked)
        super().__init__(settings)

    def replan(self, draws: Draws, with_modalities: bool = True) -> None:
        """Redraw the order and the modalities of agents (only training draws), and how late they are.

        Raises:
            DataError: no scenario has an agent of the mode.
        """
        super().replan(draws, with_modalities)
        if not len(self):
            raise DataError(
                f"{self.settings.root_key}: no scenario of '{self.settings.root}' has an agent of dataset_mode "
                f"'{self._mode}'; choose another mode or folder."
            )

    def _arranged(self, scenario: str, ids: list[str]) -> list[str]:
        """The agents of the mode in its order; training with ``random_ego``: all agents, any of which may be ego."""
        if self._random_ego:
            return ids
        if _VEHICLES_ONLY_DAY in scenario and self._mode != "v2v" and not self.settings.train:
            return []
        return [name for roadside in _MODES[self._mode] for name in sorted(ids) if is_roadside(name) is roadside]

    def _lidar(self, stem: Path, channels: int | None) -> PointSource:
        without_intensity = flavor_of(self.settings.hypes) == "coopre"
        return PointSource(beside(stem, ".bin"), read_plain_cloud if without_intensity else read_cloud)


def read_cloud(path: Path) -> NDArray[np.float32]:
    """Return the (N, 4) cloud without invalid rows; a ``.pcd`` may stand in for a missing ``.bin``.

    Raises:
        DataError: neither file can be read.
    """
    other = path.with_suffix(".pcd")
    if not files.exists(path) and files.exists(other):
        return read_points(other, drop_invalid=True)
    return read_bin(path, drop_invalid=True)


def read_plain_cloud(path: Path) -> NDArray[np.float32]:
    """Return the cloud of ``read_cloud`` with all intensities zero, as CooPre was trained."""
    cloud = read_cloud(path)
    cloud[:, 3] = 0
    return cloud
