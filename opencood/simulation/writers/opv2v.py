"""The OPV2V folder format (``spec/data.md`` section 2.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opencood.geometry.poses import x1_to_x2
from opencood.registry import register
from opencood.simulation.recording import AgentView, CameraView, Frame, Objects
from opencood.simulation.writers.pcd import pcd_bytes
from opencood.simulation.writers.pictures import depth_bytes, png_bytes
from opencood.simulation.writers.storage import whole_folder, write_json

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_KMH = 3.6
# OPV2V counts simulation steps of 0.05 s, so its 10 Hz frames carry every other number.
_STAMPS_PER_TICK = 2
_MODALITIES = ("m1", "m2", "m3", "m4")


@dataclass(frozen=True)
class WrittenScenario:
    """What was written: agent folder names, and a fingerprint (sha256) of all paths and bytes."""

    split: str
    name: str
    agents: tuple[str, ...]
    digest: str
    bytes: int


@register("writer", "opv2v")
class Opv2vWriter:
    """OPV2V folders: ``<root>/<split>/<scenario>/<agent>/<stamp>.yaml`` and ``.pcd``, and modality assignments.

    What OPV2V-H and the additional archives of OPV2V hold lies beside the frame as well, where readers find it
    whatever the root is called: depth pictures, visibility maps, clouds of LiDARs with fewer beams.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def write(self, split: str, name: str, frames: Iterable[Frame], protocol: Mapping[str, Any]) -> WrittenScenario:
        """Write one scenario; its folder appears only when it is complete.

        Raises:
            StorageError: the disk is full or not writable.
        """
        digest, size, agents = hashlib.sha256(), 0, []
        with whole_folder(self.root, Path(split, name)) as folder:
            for relative, content in self._files(frames, protocol):
                path = folder / relative
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
                digest.update(relative.as_posix().encode() + b"\0" + content)
                size += len(content)
                if len(relative.parts) > 1:
                    agents.append(relative.parts[0])
        return WrittenScenario(split, name, tuple(dict.fromkeys(agents)), digest.hexdigest(), size)

    def finish(self, scenarios: Iterable[WrittenScenario], seed: int) -> None:
        """Write the modality assignments of all splits (``heter.assignment_path``): random, and in the order of agents.

        Raises:
            StorageError: the disk is full or not writable.
        """
        random, in_order = {}, {}
        for scenario in scenarios:
            # Cars first: published readers may take the first agent of the file as ego.
            agents = sorted(scenario.agents, key=lambda agent: (agent.startswith("-"), agent))
            rng = np.random.default_rng([seed, int(scenario.name.replace("_", ""))])
            cycle = [_MODALITIES[i % len(_MODALITIES)] for i in range(len(agents))]
            in_order[scenario.name] = dict(zip(agents, cycle, strict=True))
            random[scenario.name] = dict(zip(agents, rng.permutation(_MODALITIES * 2).tolist(), strict=False))
        write_json(self.root / "opv2v_4modality.json", random)
        write_json(self.root / "opv2v_4modality_in_order.json", in_order)

    @staticmethod
    def _files(frames: Iterable[Frame], protocol: Mapping[str, Any]) -> Iterable[tuple[Path, bytes]]:
        yield Path("data_protocol.yaml"), _yaml_bytes(dict(protocol))
        for frame in frames:
            stamp = f"{frame.tick * _STAMPS_PER_TICK:06d}"
            for view in frame.agents:
                agent = Path(str(view.agent_id))
                yield agent / f"{stamp}.yaml", _yaml_bytes(_describe(view, frame.objects))
                for ending, content in _sensor_files(view):
                    yield agent / f"{stamp}{ending}", content


def _sensor_files(view: AgentView) -> Iterable[tuple[str, bytes]]:
    """Endings of file names and contents of what an agent measured."""
    yield ".pcd", pcd_bytes(view.points)
    for beams, points in view.fewer_beams.items():
        yield f"_{beams}.pcd", pcd_bytes(points)
    for number, camera in enumerate(view.cameras):
        yield f"_camera{number}.png", png_bytes(camera.image)
        yield f"_depth{number}.png", depth_bytes(camera.depth)
    if view.visibility is not None:
        yield "_bev_visibility.png", png_bytes(view.visibility)


def _describe(view: AgentView, objects: Objects) -> dict[str, Any]:
    """Content of one ``<stamp>.yaml``: own poses, and the vehicles that this agent's LiDAR hit, never itself."""
    body, lidar = _pose6(view.body_pose), _pose6(view.sensor_pose)
    listed = np.flatnonzero(objects.is_vehicle & (view.hits > 0) & (objects.ids != view.agent_id))
    return {
        **{f"camera{number}": _camera(camera, lidar) for number, camera in enumerate(view.cameras)},
        "ego_speed": _rounded(view.speed * _KMH),
        "lidar_pose": lidar,
        "plan_trajectory": [[_rounded(v) for v in (x, y, speed * _KMH)] for x, y, speed in view.plan],
        "predicted_ego_pos": list(body),
        "true_ego_pos": body,
        "vehicles": {int(objects.ids[row]): _vehicle(objects, row) for row in listed.tolist()},
    }


def _camera(camera: CameraView, lidar: list[float]) -> dict[str, Any]:
    cords = [_rounded(value) for value in camera.pose]
    return {
        "cords": cords,
        "extrinsic": [[_rounded(value) for value in row] for row in x1_to_x2(lidar, cords)],
        "intrinsic": [[_rounded(value) for value in row] for row in camera.intrinsic],
    }


def _vehicle(objects: Objects, row: int) -> dict[str, Any]:
    x, y, heading = objects.poses[row]
    return {
        "angle": [0.0, _degrees(heading), 0.0],
        "center": [0.0, 0.0, _rounded(objects.half_sizes[row, 2])],
        "extent": [_rounded(half) for half in objects.half_sizes[row]],
        "location": [_rounded(x), _rounded(y), 0.0],
        "speed": _rounded(objects.speed[row] * _KMH),
    }


def _pose6(pose: np.ndarray) -> list[float]:
    """[x, y, z, roll, yaw, pitch] in metres and degrees from x, y, z, heading (rad)."""
    x, y, z, heading = pose
    return [_rounded(x), _rounded(y), _rounded(z), 0.0, _degrees(heading), 0.0]


def _degrees(heading: float) -> float:
    """Degrees in [-180, 180)."""
    return _rounded((np.degrees(heading) + 180) % 360 - 180)


def _rounded(value: float) -> float:
    # Adding zero turns -0.0 into 0.0.
    return round(float(value), 6) + 0.0


def _yaml_bytes(content: Mapping[str, Any]) -> bytes:
    return yaml.dump(content, Dumper=_Dumper, default_flow_style=None, sort_keys=True).encode()
