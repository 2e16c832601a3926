"""DAIR-V2X-C: pairs of a vehicle and a roadside unit, joined by lists of frames (``spec/data.md`` section 2.5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from opencood.registry import register
from opencood.simulation.presets import SPLITS
from opencood.simulation.recording import AgentView, Frame
from opencood.simulation.scenario import ScenarioPlan
from opencood.simulation.writers.base import Cast, Tally, WrittenScenario
from opencood.simulation.writers.clouds import pcd_intensity_bytes
from opencood.simulation.writers.dairv2x_metadata import (
    calibrations,
    common_labels,
    in_view,
    json_bytes,
    own_labels,
    system_error,
    with_virtual_lidar,
)
from opencood.simulation.writers.metadata import listed
from opencood.simulation.writers.pictures import jpeg_bytes
from opencood.simulation.writers.right_handed import mirrored
from opencood.simulation.writers.storage import shared_folder, write_json

_SPLIT_FILES = dict(zip(SPLITS, ("train.json", "val.json", "test.json"), strict=True))
_VEHICLE, _INFRASTRUCTURE = "vehicle-side", "infrastructure-side"
_COOPERATIVE = "cooperative"
_SIDES = (_VEHICLE, _INFRASTRUCTURE)
_INTENSITY_STEPS = 256
_VEHICLE_FRAMES, _INFRASTRUCTURE_FRAMES = 100_000, 200_000  # the first frame of each side


@register("writer", "dairv2x")
class DairV2XWriter:
    """DAIR-V2X-C: ``{train,val,test}.json``, ``cooperative``, ``vehicle-side`` and ``infrastructure-side``.

    Axes are right-handed. The roadside LiDAR is a virtual one: its cloud is told from a point low on the pole, so that
    both sides see the ground at the same height.
    """

    cast: ClassVar[Cast] = Cast(cars=(1, 1), roadside=(1, 1))
    owns: ClassVar[tuple[str, ...]] = (_COOPERATIVE, *_SIDES, *_SPLIT_FILES.values())
    splits: ClassVar[Mapping[str, str]] = _SPLIT_FILES

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def write(self, plan: ScenarioPlan, frames: Iterable[Frame], protocol: Mapping[str, Any]) -> WrittenScenario:
        """Write the files of one scenario; they join those of the others when all are complete.

        Raises:
            StorageError: the disk is full or not writable.
        """
        with shared_folder(self.root, f"{plan.split}--{plan.name}") as folder:
            tally, entries = Tally(folder), []
            for number, frame in enumerate(frames, start=plan.first):
                names = {
                    _VEHICLE: f"{_VEHICLE_FRAMES + number:06d}",
                    _INFRASTRUCTURE: f"{_INFRASTRUCTURE_FRAMES + number:06d}",
                }
                error = system_error(plan.seed, number)
                for path, content in _files(mirrored(frame), names, error):
                    tally.save(path, content)
                entries.append(_entry(names, error))
            tally.add(json_bytes(entries))
        return WrittenScenario(plan.split, plan.name, _SIDES, tally.digest, tally.size, tuple(entries))

    def finish(self, scenarios: Iterable[WrittenScenario], seed: int) -> None:
        """Write the list of all pairs, and the frames of every split that has some.

        Raises:
            StorageError: the disk is full or not writable.
        """
        written = list(scenarios)
        write_json(
            self.root / _COOPERATIVE / "data_info.json", [entry for scenario in written for entry in scenario.listing]
        )
        for split, name in _SPLIT_FILES.items():
            entries = [entry for scenario in written if scenario.split == split for entry in scenario.listing]
            if entries:
                write_json(self.root / name, [Path(entry["vehicle_image_path"]).stem for entry in entries])


def _files(frame: Frame, names: Mapping[str, str], error: Mapping[str, float]) -> Iterator[tuple[Path, bytes]]:
    """Path and content of every file of a pair of right-handed views."""
    vehicle = next(view for view in frame.agents if view.agent_id >= 0)
    unit = next(view for view in frame.agents if view.agent_id < 0)
    views = {_VEHICLE: vehicle, _INFRASTRUCTURE: with_virtual_lidar(unit)}
    seen: dict[str, np.ndarray] = {}
    front: dict[str, np.ndarray] = {}
    for side, view in views.items():
        seen[side] = listed(view, frame.objects, pedestrians=True)
        front[side] = seen[side][in_view(view, frame.objects, seen[side])]
        yield from _side_files(Path(side), names[side], view, error if side == _INFRASTRUCTURE else None)
        for kind, rows in _own_lists(side, seen[side], front[side]).items():
            yield Path(side, "label", kind, f"{names[side]}.json"), own_labels(view, frame.objects, rows)
    for kind, rows_of in {"label_world": seen, "label_world_backup": front}.items():
        rows = np.union1d(rows_of[_VEHICLE], rows_of[_INFRASTRUCTURE])
        wanted = rows[frame.objects.is_vehicle[rows] & (frame.objects.ids[rows] != vehicle.agent_id)]
        yield Path(_COOPERATIVE, kind, f"{names[_VEHICLE]}.json"), common_labels(frame.objects, wanted, error)


def _side_files(
    side: Path, name: str, view: AgentView, error: Mapping[str, float] | None
) -> Iterator[tuple[Path, bytes]]:
    yield side / "velodyne" / f"{name}.pcd", pcd_intensity_bytes(view.points, _INTENSITY_STEPS)
    for kind, content in calibrations(view, error).items():
        yield side / "calib" / kind / f"{name}.json", json_bytes(content)
    for camera in view.cameras[:1]:
        yield side / "image" / f"{name}.jpg", jpeg_bytes(camera.image)


def _own_lists(side: str, seen: np.ndarray, front: np.ndarray) -> dict[str, np.ndarray]:
    """Lists of one side by folder: all around, and in the view of the camera; the roadside unit has one for both."""
    return {"virtuallidar": seen} if side == _INFRASTRUCTURE else {"lidar": seen, "lidar_backup": front}


def _entry(names: Mapping[str, str], error: Mapping[str, float]) -> dict[str, Any]:
    """One pair in ``data_info.json``."""
    paths = {}
    for word, side in (("vehicle", _VEHICLE), ("infrastructure", _INFRASTRUCTURE)):
        paths[f"{word}_image_path"] = f"{side}/image/{names[side]}.jpg"
        paths[f"{word}_pointcloud_path"] = f"{side}/velodyne/{names[side]}.pcd"
    label = f"{_COOPERATIVE}/label_world/{names[_VEHICLE]}.json"
    return paths | {"cooperative_label_path": label, "system_error_offset": dict(error)}
