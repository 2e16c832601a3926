"""One small, complete tree of every data set format, in which every file is read."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from opencood.geometry.poses import x_to_world
from tests.unit.data import test_dairv2x as dair
from tests.unit.data.conftest import cloud, metadata_of, pcd_bytes

_POSES = {"1": [100.0, 50.0, 1.9, 0.5, 30.0, -0.3], "2": [106.0, 52.0, 1.9, -0.2, 75.0, 0.4]}
_UNIT = {"-1": [103.0, 48.0, 4.0, 0.0, 10.0, 0.0]}
_OBJECTS = {7: (104.0, 55.0, 0.8, 20.0), 8: (97.0, 47.0, 0.7, -100.0)}
_ENCODINGS = ("binary", "ascii", "binary_compressed")
_STAMPS = ("000068", "000070")
_POINTS = 80


@dataclass(frozen=True)
class Tree:
    """A data set on disk.

    Attributes:
        format: registered reader.
        folder: everything lies in it.
        root: value of ``root_dir``.
        hypes: further keys of the reader.
    """

    format: str
    folder: Path
    root: Path
    hypes: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """All files, sorted."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def opv2v(folder: Path) -> Tree:
    """Two cars with a camera each, depth, visibility, sweeps of 32 lines, and every encoding of clouds."""
    for number, (agent, stamp, place) in enumerate(_places(folder, _POSES)):
        content = metadata_of(agent, _POSES[agent], _OBJECTS)
        content["camera0"] = {"cords": _POSES[agent], "intrinsic": [[20, 0, 8], [0, 20, 6], [0, 0, 1]]}
        _dump_yaml(place / f"{stamp}.yaml", content)
        points = cloud(_POINTS, seed=number)
        (place / f"{stamp}.pcd").write_bytes(pcd_bytes(points, _ENCODINGS[number % 3], "UF"[number % 2]))
        (place / f"{stamp}_32.pcd").write_bytes(pcd_bytes(points[::2], _ENCODINGS[(number + 1) % 3]))
        for name, mode in (("camera0", "RGB"), ("depth0", "L"), ("bev_visibility", "L")):
            _picture(place / f"{stamp}_{name}.png", mode, number)
    return Tree("opv2v", folder, folder)


def v2xset(folder: Path) -> Tree:
    """A car and a roadside unit."""
    poses = {"1": _POSES["1"]} | _UNIT
    for number, (agent, stamp, place) in enumerate(_places(folder, poses)):
        _dump_yaml(place / f"{stamp}.yaml", metadata_of(agent, poses[agent], _OBJECTS))
        (place / f"{stamp}.pcd").write_bytes(pcd_bytes(cloud(_POINTS, seed=number), _ENCODINGS[number % 3]))
    return Tree("v2xset", folder, folder)


def v2xreal(folder: Path) -> Tree:
    """A car and a roadside unit with raw clouds and typed objects."""
    poses = {"1": _POSES["1"]} | _UNIT
    for number, (agent, stamp, place) in enumerate(_places(folder, poses)):
        content = metadata_of(agent, poses[agent], _OBJECTS)
        for kind, entry in zip(("Car", "Pedestrian"), content["vehicles"].values(), strict=True):
            entry["obj_type"] = kind
        _dump_yaml(place / f"{stamp}.yaml", content)
        cloud(_POINTS, seed=number).tofile(place / f"{stamp}.bin")
    return Tree("v2xreal", folder, folder)


def v2v4real(folder: Path) -> Tree:
    """Two cars whose poses are matrices and whose boxes are in their own frames."""
    poses = dict(zip("01", _POSES.values(), strict=True))
    for number, (agent, stamp, place) in enumerate(_places(folder, poses)):
        content = metadata_of(agent, poses[agent], {7: (4.0, 5.0, -1.0, 20.0), 8: (-6.0, 3.0, -1.0, 0.0)})
        content["lidar_pose"] = x_to_world(poses[agent]).tolist()
        for name, entry in content["vehicles"].items():
            entry |= {"obj_type": "Car", "ass_id": name if name == 7 else -1}
        _dump_yaml(place / f"{stamp}.yaml", content)
        (place / f"{stamp}.pcd").write_bytes(pcd_bytes(cloud(_POINTS, seed=number), field="intensity"))
    return Tree("v2v4real", folder, folder)


def v2xsim(folder: Path) -> Tree:
    """Two frames of two cars in a pickle, clouds of five columns."""
    infos = []
    for frame in range(2):
        info: dict[str, Any] = {"token": f"t{frame}", "agent_num": 2, "timestamp": 0.2 * frame}
        for number, pose in enumerate(_POSES.values(), start=1):
            file = folder / f"sweeps/{frame}_{number}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.pad(cloud(_POINTS, seed=number), ((0, 0), (0, 1))).tofile(file)
            boxes = np.array(
                [[104.0, 55, 0.8, 4.5, 1.9, 1.6, 1, 0, 0, 0.2], [97.0, 47, 0.7, 4.2, 1.8, 1.5, 1, 0, 0, 0]]
            )
            info[f"lidar_path_{number}"] = f"sweeps/{file.name}"
            info[f"lidar_pose_{number}"] = x_to_world(pose)
            info[f"labels_{number}"] = {"gt_boxes_global": boxes, "gt_object_ids": np.array([1001, 1002])}
        infos.append(info)
    root = folder / "v2xsim_infos_test.pkl"
    root.write_bytes(pickle.dumps(infos, protocol=3))  # what NumPy 1 and Python 3.7 wrote
    return Tree("v2xsim", folder, root)


def dairv2x(folder: Path) -> Tree:
    """A vehicle and a roadside unit in two frames, with all label lists and one camera each."""
    dair.write_tree(folder)
    for number, (side, names) in enumerate((("vehicle", dair.VEHICLES), ("infrastructure", dair.UNITS))):
        for name in names:
            _picture(folder / f"{side}-side/image/{name}.jpg", "RGB", number)
    return Tree("dairv2x", folder, folder / "train.json", {"data_dir": str(folder)})


TREES: dict[str, Callable[[Path], Tree]] = {
    maker.__name__: maker for maker in (opv2v, v2xset, v2xsim, dairv2x, v2xreal, v2v4real)
}


def copied(folder: Path, source: Path, format_name: str) -> Tree:
    """A copy of somebody's data set, to be damaged."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    return Tree(format_name, folder, folder)


def _places(folder: Path, agents: Mapping[str, Any]) -> list[tuple[str, str, Path]]:
    """Agent, stamp and folder of every moment; folders are made."""
    for agent in agents:
        (folder / "2021_01_01_10_00_00" / agent).mkdir(parents=True, exist_ok=True)
    return [(agent, stamp, folder / "2021_01_01_10_00_00" / agent) for agent in agents for stamp in _STAMPS]


def _dump_yaml(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content))


def _picture(path: Path, mode: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (12, 16, 3) if mode == "RGB" else (12, 16)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
