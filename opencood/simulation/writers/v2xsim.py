"""V2X-Sim 2.0: clouds as ``.bin`` files, and a pickle of frames for every split (``spec/data.md`` section 2.4)."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from opencood.registry import register
from opencood.simulation.presets import SPLITS
from opencood.simulation.recording import AgentView, Frame, Objects, ego_first
from opencood.simulation.scenario import ScenarioPlan
from opencood.simulation.writers.base import Cast, Tally, WrittenScenario
from opencood.simulation.writers.clouds import bin_bytes
from opencood.simulation.writers.metadata import listed, to_world
from opencood.simulation.writers.right_handed import mirrored
from opencood.simulation.writers.storage import whole_folder, write_whole

_SWEEPS = "sweeps"
_SPLIT_FILES = {split: f"v2xsim_infos_{name}.pkl" for split, name in zip(SPLITS, ("train", "val", "test"), strict=True)}
_COLUMNS = 5  # the fifth, the number of the ring, is zero
_PICKLE_PROTOCOL = 4
_SECONDS_PER_TICK = 0.1


@register("writer", "v2xsim")
class V2XSimWriter:
    """V2X-Sim 2.0: ``v2xsim_infos_<split>.pkl``, with paths relative to its folder, and ``sweeps/``; no cameras."""

    cast: ClassVar[Cast] = Cast()
    owns: ClassVar[tuple[str, ...]] = (_SWEEPS, *_SPLIT_FILES.values())
    splits: ClassVar[Mapping[str, str]] = _SPLIT_FILES

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def write(self, plan: ScenarioPlan, frames: Iterable[Frame], protocol: Mapping[str, Any]) -> WrittenScenario:
        """Write the clouds of one scenario; their folder appears only when it is complete.

        Raises:
            StorageError: the disk is full or not writable.
        """
        place, infos = Path(_SWEEPS, plan.name), []
        with whole_folder(self.root, place) as folder:
            tally = Tally(folder)
            for frame in frames:
                seen = mirrored(frame)
                info: dict[str, Any] = {
                    "token": f"{plan.name}_{frame.tick:06d}",
                    "timestamp": frame.tick * _SECONDS_PER_TICK,
                    "agent_num": len(seen.agents),
                }
                for number, view in enumerate(ego_first(seen.agents), start=1):
                    cloud = Path(f"{frame.tick:06d}_{number}.bin")
                    tally.save(cloud, bin_bytes(view.points, _COLUMNS))
                    info |= {
                        f"lidar_path_{number}": (place / cloud).as_posix(),
                        f"lidar_pose_{number}": to_world(view.sensor_pose),
                        f"labels_{number}": _labels(view, seen.objects),
                    }
                infos.append(info)
            # Bytes, because what the lists of frames are made of must not depend on which process made it.
            listing = pickle.dumps(infos, _PICKLE_PROTOCOL)
            tally.add(listing)
        agents = tuple(str(number + 1) for number in range(max(info["agent_num"] for info in infos)))
        return WrittenScenario(plan.split, plan.name, agents, tally.digest, tally.size, (listing,))

    def finish(self, scenarios: Iterable[WrittenScenario], seed: int) -> None:
        """Write the list of frames of every split that has some.

        Raises:
            StorageError: the disk is full or not writable.
        """
        written = list(scenarios)
        for split, name in _SPLIT_FILES.items():
            listings = [listing for scenario in written if scenario.split == split for listing in scenario.listing]
            infos = [info for listing in listings for info in pickle.loads(listing)]
            if infos:
                write_whole(self.root / name, pickle.dumps(infos, _PICKLE_PROTOCOL))


def _labels(view: AgentView, objects: Objects) -> dict[str, np.ndarray]:
    """What an agent's LiDAR hit: boxes (N, 10) = centre, length, width, height, quaternion w, x, y, z in the world."""
    rows = listed(view, objects, pedestrians=False)
    x, y, heading = objects.poses[rows].T
    half = objects.half_sizes[rows]
    zero = np.zeros(len(rows))
    turn = np.column_stack([np.cos(heading / 2), zero, zero, np.sin(heading / 2)])
    return {
        "gt_boxes_global": np.column_stack([x, y, half[:, 2], 2 * half, turn]),
        "gt_object_ids": objects.ids[rows].astype(np.int64),
        "gt_names": np.full(len(rows), "car"),
    }
