"""Small made data sets in the OPV2V format, and hypes that read them."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from opencood.config.loader import load_mapping

RANGE = [-12.8, -12.8, -3, 12.8, 12.8, 1]
AGENTS = {"1045": [100.0, 50.0, 1.9, 0.5, 30.0, -0.3], "641": [106.0, 52.0, 1.9, -0.2, 75.0, 0.4]}
OBJECTS = {
    7: (104.0, 55.0, 0.8, 20.0),
    8: (97.0, 47.0, 0.7, -100.0),
    1045: (100.0, 50.0, 0.7, 30.0),
    641: (106.0, 52.0, 0.7, 75.0),
}
STAMPS = ("000068", "000070")
SIZE = (32, 24)
PICTURES = {
    "resize_lim": [0.5, 0.5], "final_dim": [12, 16], "rot_lim": [0, 0], "H": SIZE[1], "W": SIZE[0], "rand_flip": False,
    "bot_pct_lim": [0, 0], "cams": ["camera0"], "Ncams": 1,
}  # fmt: skip

_VOXELS = {"voxel_size": [0.4, 0.4, 4], "max_points_per_voxel": 32, "max_voxel_train": 8000, "max_voxel_test": 9000}
_PREPROCESS = {"core_method": "SpVoxelPreprocessor", "args": _VOXELS, "cav_lidar_range": RANGE}
_HYPES: dict[str, Any] = {
    "yaml_parser": "load_general_params",
    "train_params": {"max_cav": 5},
    "comm_range": 70,
    "input_source": ["lidar"],
    "label_type": "lidar",
    "fusion": {"core_method": "intermediate", "dataset": "opv2v", "args": {"proj_first": False}},
    "preprocess": _PREPROCESS,
    "postprocess": {
        "core_method": "VoxelPostprocessor",
        "gt_range": RANGE,
        "anchor_args": {
            "cav_lidar_range": RANGE, "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "feature_stride": 2, "num": 2,
        },
        "target_args": {"pos_threshold": 0.6, "neg_threshold": 0.45, "score_threshold": 0.2},
        "order": "hwl",
        "max_num": 20,
        "nms_thresh": 0.15,
    },
    "model": {"core_method": "none", "args": {}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Index caches of a test stay in its own folder."""
    monkeypatch.setenv("OPENCOOD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pcd() -> Callable[..., bytes]:
    """``pcd(points, encoding, kind, field)`` -> content of a file."""
    return pcd_bytes


@pytest.fixture
def metadata() -> Callable[..., dict[str, Any]]:
    """``metadata(agent, pose, objects)`` -> content of a metadata file."""
    return metadata_of


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """``folder(agents=..., stamps=..., scenario=..., objects=...)`` writes a scenario and returns the data root."""

    def write(
        agents: Mapping[str, Sequence[float]] = AGENTS,
        stamps: Sequence[str] = STAMPS,
        scenario: str = "2021_01_01_10_00_00",
        objects: Mapping[int, Sequence[float]] = OBJECTS,
        points: int = 300,
    ) -> Path:
        root = tmp_path / "data"
        for agent, pose in agents.items():
            place = root / scenario / agent
            place.mkdir(parents=True)
            for stamp in stamps:
                content = yaml.safe_dump(metadata_of(agent, list(pose), objects))
                (place / f"{stamp}.yaml").write_text(content)
                (place / f"{stamp}.pcd").write_bytes(pcd_bytes(cloud(points, seed=abs(int(agent)) + int(stamp))))
        return root

    return write


@pytest.fixture
def hypes() -> Callable[..., Any]:
    """``hypes(root, method, **changes)`` -> a configuration after its parser; changes replace top-level keys."""

    def make(root: Path, method: str = "intermediate", **changes: Any) -> Any:
        content = copy.deepcopy(_HYPES) | {"root_dir": str(root), "validate_dir": str(root)}
        content["fusion"]["core_method"] = method
        if "heter" in method:
            content["heter"] = {
                "assignment_path": None,
                "ego_modality": "m1",
                "mapping_dict": {"m1": "m1", "m2": "m1"},
                "modality_setting": {"m1": {"sensor_type": "lidar", "core_method": "none", "preprocess": _PREPROCESS}},
            }
        return load_mapping(content | changes)

    return make


@pytest.fixture
def pictured(folder: Callable[..., Path]) -> Path:
    """A made data set whose agents have one camera with depth, and a drawn map."""
    root = folder()
    for file in root.glob("*/*/*.yaml"):
        content = yaml.safe_load(file.read_text())
        content["camera0"] = {
            "cords": content["lidar_pose"],
            "intrinsic": [[20.0, 0, 16], [0, 20, 12], [0, 0, 1]],
            "extrinsic": np.eye(4).tolist(),
        }
        file.write_text(yaml.safe_dump(content))
        for ending, mode, colour in (("camera0", "RGB", (200, 10, 5)), ("depth0", "L", 7)):
            Image.new(mode, SIZE, colour).save(file.with_name(f"{file.stem}_{ending}.png"))
        Image.new("RGB", (8, 8), (3, 2, 1)).save(file.with_name(f"{file.stem}_bev_dynamic.png"))
        Image.new("L", (256, 256), 255).save(file.with_name(f"{file.stem}_bev_visibility.png"))
    return root


@pytest.fixture
def stamp(pictured: Path, hypes: Callable[..., Any]) -> Callable[..., Any]:
    """``stamp(...)``: m1 with points, m2 with pictures, and the protocol m0 with points of a coarser grid."""

    def make(train_ego: str = "m1", **changes: Any) -> Any:
        content = hypes(pictured, "intermediateheter", flavor="stamp", **changes)
        content["fusion"]["core_method"] = "intermediateheteradapter"
        m1 = content["heter"]["modality_setting"]["m1"] | {"postprocess": content["postprocess"]}
        m0 = copy.deepcopy(m1)
        m0["postprocess"]["anchor_args"] |= {"feature_stride": 4, "vw": 0.4, "vh": 0.4, "W": 64, "H": 64}
        m2 = {
            "sensor_type": "camera",
            "core_method": "none",
            "data_aug_conf": PICTURES,
            "postprocess": m1["postprocess"],
        }
        content["heter"] |= {
            "ego_modality": train_ego, "modality_setting": {"m0": m0, "m1": m1, "m2": m2},
            "mapping_dict": {"m1": "m1", "m2": "m2"}, "cav_preference": {"m2": 1},
        }  # fmt: skip
        content["modality_assignment"] = {"2021_01_01_10_00_00": {"1045": "m1", "641": "m2"}}
        return content

    return make


def cloud(points: int, seed: int = 0) -> np.ndarray:
    """(N, 4) float32 points around a sensor, none of them on its own car."""
    random = np.random.default_rng(seed)
    radius, angle = random.uniform(4, 12, points), random.uniform(-np.pi, np.pi, points)
    height, red = random.uniform(-2, 0.5, points), random.integers(0, 256, points)
    columns = [radius * np.cos(angle), radius * np.sin(angle), height, red / np.float32(255)]
    return np.stack(columns, axis=1).astype(np.float32)


def metadata_of(agent: str, pose: Sequence[float], objects: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    """Metadata of an agent that sees every object but itself."""
    vehicles = {
        name: {
            "location": [x, y, 0.0],
            "center": [0.0, 0.0, z],
            "extent": [2.2, 0.9, 0.7],
            "angle": [0.0, yaw, 0.0],
            "speed": 3.0,
        }
        for name, (x, y, z, yaw) in objects.items()
        if str(name) != agent
    }
    return {"lidar_pose": list(pose), "ego_speed": 1e1, "plan_trajectory": [[1.0, 2.0, 3.0]], "vehicles": vehicles}


def pcd_bytes(points: np.ndarray, encoding: str = "binary", kind: str = "U", field: str = "rgb") -> bytes:
    """A ``.pcd`` file of (N, 4) points; ``field`` rgb packs the intensity into the red byte, ``intensity`` keeps it."""
    count = len(points)
    red = np.rint(points[:, 3] * 255).astype(np.uint32) << 16
    last = red if field == "rgb" else points[:, 3].astype("<f4")
    if field == "rgb" and kind == "F":
        last = red.view("<f4")
    header = (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z {field}\nSIZE 4 4 4 4\n"
        f"TYPE F F F {'F' if field != 'rgb' else kind}\nCOUNT 1 1 1 1\nWIDTH {count}\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA {encoding}\n"
    ).encode()
    columns = [np.ascontiguousarray(column) for column in (*points[:, :3].T.astype("<f4"), last)]
    if encoding == "ascii":
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return header + "\n".join(" ".join(f"{value:.10g}" for value in row) for row in rows).encode() + b"\n"
    if encoding == "binary":
        return header + np.stack([column.view("<u4") for column in columns], axis=1).tobytes()
    plain = b"".join(column.tobytes() for column in columns)
    packed = lzf_encode(plain)
    return header + struct.pack("<II", len(packed), len(plain)) + packed


def lzf_encode(plain: bytes) -> bytes:
    """A simple LZF coder: repeats of at least three bytes become references, the rest literals."""
    packed, literal, seen, at = bytearray(), bytearray(), {}, 0

    def flush() -> None:
        for start in range(0, len(literal), 32):
            piece = literal[start : start + 32]
            packed.append(len(piece) - 1)
            packed.extend(piece)
        literal.clear()

    while at < len(plain):
        key = plain[at : at + 3]
        before = seen.get(key, -1) if len(key) == 3 else -1
        seen[key] = at
        if before >= 0 and at - before <= 8192:
            length = 3
            while length < 264 and at + length < len(plain) and plain[before + length] == plain[at + length]:
                length += 1
            flush()
            distance, short = at - before - 1, length - 2
            packed.append((min(short, 7) << 5) | (distance >> 8))
            if short >= 7:
                packed.append(short - 7)
            packed.append(distance & 255)
            at += length
        else:
            literal.append(plain[at])
            at += 1
    flush()
    return bytes(packed)


def assert_same(first: Any, second: Any, at: str = "") -> None:
    """Two batches are the same to the bit."""
    assert type(first) is type(second), at
    if isinstance(first, Mapping):
        assert list(first) == list(second), at
        for key, value in first.items():
            assert_same(value, second[key], f"{at}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), at
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{at}/{number}")
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype and first.shape == second.shape, at
        assert first.numpy().tobytes() == second.numpy().tobytes(), at
    else:
        assert first == second, at
