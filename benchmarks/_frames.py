"""Full-size frames on disk: five agents with 60,000 points, 40 objects and, if wanted, four pictures of 800 x 600 each.

Clouds are those of a published frame where it is at hand. Pictures look like photographs to a compressor: structure of
all sizes and the noise of a sensor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from opencood.config.loader import load_mapping
from opencood.data.pcd import read_points

AGENTS, POINTS, OBJECTS, STAMPS, CAMERAS = 5, 60_000, 40, 6, 4
CAMERA_AGENTS = ("101", "103")
RANGE = [-102.4, -102.4, -3, 102.4, 102.4, 1]
GRID = {"voxel_size": [0.4, 0.4, 4], "max_points_per_voxel": 32, "max_voxel_train": 32_000, "max_voxel_test": 70_000}
ANCHORS = {"cav_lidar_range": RANGE, "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "feature_stride": 2, "num": 2}
PREPROCESS = {"core_method": "SpVoxelPreprocessor", "args": GRID, "cav_lidar_range": RANGE}
SCENARIO = "scenario"
SIZE = (800, 600)
PICTURES = {
    "H": SIZE[1], "W": SIZE[0], "final_dim": [384, 512], "resize_lim": [0.65, 0.7], "rot_lim": [0, 0],
    "bot_pct_lim": [0.0, 0.05], "rand_flip": False, "cams": [f"camera{k}" for k in range(CAMERAS)], "Ncams": CAMERAS,
}  # fmt: skip
_NOISE = 2.0  # standard deviation of a sensor's noise, grey levels
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "real" / "v2xr_frame" / "test"


def hypes(root: Path, cameras: bool = False) -> Any:
    """Intermediate fusion of all agents by LiDAR, or with two of the five agents by cameras."""
    content: dict[str, Any] = {
        "root_dir": str(root),
        "validate_dir": str(root),
        "yaml_parser": "load_general_params",
        "train_params": {"max_cav": AGENTS},
        "comm_range": 70,
        "input_source": ["lidar"],
        "label_type": "lidar",
        "fusion": {"core_method": "intermediate", "dataset": "opv2v", "args": {"proj_first": False}},
        "preprocess": PREPROCESS,
        "postprocess": {
            "core_method": "VoxelPostprocessor",
            "gt_range": RANGE,
            "anchor_args": ANCHORS,
            "target_args": {"pos_threshold": 0.6, "neg_threshold": 0.45, "score_threshold": 0.2},
            "order": "hwl",
            "max_num": 150,
            "nms_thresh": 0.15,
        },
        "model": {"core_method": "none", "args": {"supervise_single": True}},
    }
    if cameras:
        content["input_source"] = ["lidar", "camera"]
        content["fusion"]["core_method"] = "intermediateheter"
        content["modality_assignment"] = {
            SCENARIO: {name: "m2" if name in CAMERA_AGENTS else "m1" for name in map(str, range(100, 100 + AGENTS))}
        }
        content["heter"] = {
            "assignment_path": None,
            "ego_modality": "m1",
            "mapping_dict": {"m1": "m1", "m2": "m2"},
            "modality_setting": {
                "m1": {"sensor_type": "lidar", "core_method": "none", "preprocess": PREPROCESS},
                "m2": {"sensor_type": "camera", "core_method": "none", "data_aug_conf": PICTURES},
            },
        }
    return load_mapping(content)


def write(root: Path, encoding: str = "binary", cameras: bool = False) -> None:
    """Write all agents and stamps."""
    random = np.random.default_rng(0)
    real = [read_points(file) for file in sorted(REAL.rglob("000000.pcd"))]
    vehicles = {
        int(name): {
            "location": [float(v) for v in (*random.uniform(-60, 60, 2), 0)],
            "center": [0.0, 0.0, 0.7],
            "extent": [2.2, 0.9, 0.7],
            "angle": [0.0, float(random.uniform(-180, 180)), 0.0],
            "speed": 5.0,
        }
        for name in range(OBJECTS)
    }
    for agent in range(AGENTS):
        folder = root / SCENARIO / str(100 + agent)
        folder.mkdir(parents=True)
        cloud = real[agent % len(real)] if real else _made_cloud(random)
        cloud = pcd(cloud[random.integers(0, len(cloud), POINTS)], encoding)
        trajectory = random.uniform(-50, 50, (150, 3)).tolist()
        pose = [float(v) for v in (*random.uniform(-15, 15, 2), 1.9, 0.1, random.uniform(-180, 180), 0.2)]
        content = {"lidar_pose": pose, "plan_trajectory": trajectory, "vehicles": vehicles}
        if cameras:
            content |= {f"camera{k}": _camera(pose, 90.0 * k) for k in range(CAMERAS)}
            _write_pictures(folder, random)
        for stamp in range(STAMPS):
            (folder / f"{stamp:06d}.yaml").write_text(yaml.safe_dump(content))
            (folder / f"{stamp:06d}.pcd").write_bytes(cloud)


def _camera(pose: list[float], yaw: float) -> dict[str, Any]:
    return {"cords": [*pose[:4], pose[4] + yaw, pose[5]], "intrinsic": [[335.6, 0, 400], [0, 335.6, 300], [0, 0, 1]]}


def _write_pictures(folder: Path, random: np.random.Generator) -> None:
    """The same pictures at every stamp, and maps that see everything."""
    for camera in range(CAMERAS):
        Image.fromarray(photograph(random)).save(folder / f"000000_camera{camera}.png")
    Image.new("RGB", (256, 256), "white").save(folder / "000000_bev_visibility.png")
    for first in list(folder.glob("000000_*.png")):
        for stamp in range(1, STAMPS):
            first.with_name(first.name.replace("000000", f"{stamp:06d}")).write_bytes(first.read_bytes())


def photograph(random: np.random.Generator) -> np.ndarray:
    """(600, 800, 3) bytes."""
    picture = np.full((SIZE[1], SIZE[0], 3), 120.0)
    for cells in (4, 16, 64, 256):
        coarse = random.normal(0, 60 / cells**0.5, (3, cells * 3 // 4, cells)).astype(np.float32)
        smooth = [np.asarray(Image.fromarray(plane).resize(SIZE, Image.Resampling.BICUBIC)) for plane in coarse]
        picture += np.stack(smooth, axis=-1)
    return np.clip(picture + random.normal(0, _NOISE, picture.shape), 0, 255).astype(np.uint8)


def _made_cloud(random: np.random.Generator) -> np.ndarray:
    radius, angle = random.exponential(20, POINTS) + 3, random.uniform(-np.pi, np.pi, POINTS)
    height, red = random.uniform(-2, 0.5, POINTS), random.integers(0, 256, POINTS) / 255
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height, red], axis=1).astype(np.float32)


def pcd(points: np.ndarray, encoding: str) -> bytes:
    """A ``.pcd`` file of (N, 4) points."""
    count, red = len(points), np.rint(points[:, 3] * 255).astype("<u4") << 16
    header = (
        f"VERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH {count}\nHEIGHT 1\n"
        f"POINTS {count}\nDATA {encoding}\n"
    ).encode()
    if encoding == "ascii":
        rows = (f"{x:.9g} {y:.9g} {z:.9g} {bits}" for (x, y, z), bits in zip(points[:, :3], red, strict=True))
        return header + "\n".join(rows).encode()
    return header + np.column_stack([points[:, :3].astype("<f4").view("<u4"), red]).tobytes()
