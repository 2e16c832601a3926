"""From files to the batch: five agents with 60,000 points and 40 objects each, on the published LiDAR grid.

The plain baseline works as published loaders do: pure-Python YAML at every access, one object at a time, and for every
label set dense overlaps of all anchors (whose corners are computed anew) with all objects. Clouds and voxels are alike.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _timing import Row, median_seconds, versus

from opencood.config.loader import load_mapping
from opencood.data.build import build_dataset
from opencood.data.pcd import read_points
from opencood.data.readers.opv2v_metadata import parse_metadata
from opencood.geometry.boxes import boxes_to_corners_3d, corners_in_range, corners_to_boxes, standup_boxes
from opencood.geometry.coding import encode_boxes
from opencood.geometry.poses import transform_points, x1_to_x2
from opencood.registry import REGISTRY

AGENTS, POINTS, OBJECTS, STAMPS = 5, 60_000, 40, 6
RANGE = [-102.4, -102.4, -3, 102.4, 102.4, 1]
GRID = {"voxel_size": [0.4, 0.4, 4], "max_points_per_voxel": 32, "max_voxel_train": 32_000, "max_voxel_test": 70_000}
ANCHORS = {"cav_lidar_range": RANGE, "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "feature_stride": 2, "num": 2}
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "real" / "v2xr_frame" / "test"


def run() -> list[Row]:
    """Figures of reading, starting, building and collating."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["OPENCOOD_CACHE"] = str(Path(scratch) / "cache")
        root = Path(scratch) / "data"
        _write(root)
        return _files(root) + _start(root) + _samples(root)


def _files(root: Path) -> list[Row]:
    binary, metadata = next(root.rglob("*.pcd")), next(root.rglob("*.yaml"))
    text = binary.with_suffix(".txt.pcd")
    text.write_bytes(_pcd(read_points(binary), "ascii"))
    label = f"pcd, {POINTS // 1000}k points"
    rows = [
        versus(f"read binary {label}", *_both(lambda: read_points(binary), lambda: _plain_binary(binary))),
        versus(f"read ascii {label}", *_both(lambda: read_points(text), lambda: _plain_ascii(text))),
    ]
    text.unlink()
    parse = _both(lambda: parse_metadata(metadata), lambda: yaml.load(metadata.read_text(), yaml.SafeLoader))
    return [*rows, versus(f"parse metadata, {OBJECTS} objects", *parse)]


def _start(root: Path) -> list[Row]:
    hypes = _hypes(root)

    def first() -> None:
        for cache in Path(os.environ["OPENCOOD_CACHE"]).rglob("*.npz"):
            cache.unlink()
        build_dataset(hypes, train=False)

    cold = median_seconds(first, runs=3)
    warm = median_seconds(lambda: build_dataset(hypes, train=False))
    return [versus(f"second start, {AGENTS * STAMPS} files", warm, cold)]


def _samples(root: Path) -> list[Row]:
    dataset = build_dataset(_hypes(root), train=False)
    label = f"sample, {AGENTS} agents x {POINTS // 1000}k points"
    sample, baseline = median_seconds(lambda: dataset[0]), median_seconds(lambda: _plain_sample(dataset, root), runs=3)
    samples = [dataset[index] for index in range(2)]
    collate = median_seconds(lambda: dataset.collate_batch_train(samples))
    return [versus(label, sample, baseline), versus("collate, batch of 2", collate, None)]


def _both(fast: Callable[[], Any], plain: Callable[[], Any]) -> tuple[float, float]:
    return median_seconds(fast), median_seconds(plain, runs=3)


# --- plain baselines ---


def _plain_binary(file: Path) -> list[tuple[float, ...]]:
    content = file.read_bytes()
    body = content.index(b"DATA binary\n") + len(b"DATA binary\n")
    return [(x, y, z, ((bits >> 16) & 255) / 255) for x, y, z, bits in struct.iter_unpack("<fffI", content[body:])]


def _plain_ascii(file: Path) -> list[tuple[float, ...]]:
    lines = file.read_text().partition("DATA ascii\n")[2].splitlines()
    rows = (line.split() for line in lines)
    return [(float(x), float(y), float(z), ((int(bits) >> 16) & 255) / 255) for x, y, z, bits in rows]


def _plain_sample(dataset: Any, root: Path) -> None:
    """The same inputs, and the labels of every agent and of all together, the published way."""
    frame = dataset.frame(0)
    anchors = dataset.post_processor.anchors()
    preprocessor = REGISTRY.get("preprocessor", "SpVoxelPreprocessor").target(**GRID, cav_lidar_range=RANGE)
    merged: dict[int, np.ndarray] = {}
    for agent in frame.agents:
        metadata = yaml.load((root / frame.scenario / agent.id / f"{frame.stamp}.yaml").read_text(), yaml.SafeLoader)
        points = agent.lidar.read()
        preprocessor.preprocess(points[np.random.permutation(len(points))])
        own = _plain_boxes(metadata["vehicles"], agent.lidar_pose)
        merged = _plain_boxes(metadata["vehicles"], frame.ego.lidar_pose) | merged
        _plain_targets(list(own.values()), anchors)
    _plain_targets(list(merged.values()), anchors)


def _plain_boxes(vehicles: dict[int, Any], reference: np.ndarray) -> dict[int, np.ndarray]:
    boxes = {}
    signs = boxes_to_corners_3d(np.array([[0, 0, 0, 2, 2, 2, 0]], np.float64), "lwh")[0]
    for name, vehicle in vehicles.items():
        pose = np.concatenate([np.add(vehicle["location"], vehicle["center"]), vehicle["angle"]])
        corners = transform_points(signs * np.array(vehicle["extent"]), x1_to_x2(pose, reference))
        box = corners_to_boxes(corners[None], "hwl")
        if corners_in_range(boxes_to_corners_3d(box, "hwl"), RANGE)[0]:
            boxes[name] = box[0]
    return boxes


def _plain_targets(boxes: list[np.ndarray], anchors: np.ndarray) -> None:
    """Dense assignment: every anchor against every box."""
    flat = anchors.reshape(-1, 7)
    mine = standup_boxes(boxes_to_corners_3d(flat, "hwl"))
    area = (mine[:, 2] - mine[:, 0] + 1) * (mine[:, 3] - mine[:, 1] + 1)
    overlaps = np.zeros((len(flat), len(boxes)), np.float32)
    for column, box in enumerate(boxes):
        other = standup_boxes(boxes_to_corners_3d(box[None], "hwl"))[0]
        width = np.minimum(mine[:, 2], other[2]) - np.maximum(mine[:, 0], other[0]) + 1
        height = np.minimum(mine[:, 3], other[3]) - np.maximum(mine[:, 1], other[1]) + 1
        common = np.maximum(width, 0) * np.maximum(height, 0)
        overlaps[:, column] = common / (area + (other[2] - other[0] + 1) * (other[3] - other[1] + 1) - common)
    positive, box_of = np.nonzero(overlaps > 0.6)
    targets = np.zeros((len(flat), 7))
    targets[positive] = encode_boxes(np.stack(boxes)[box_of], flat[positive])
    np.zeros(len(flat))[(overlaps < 0.45).all(axis=1)] = 1


# --- the data ---


def _hypes(root: Path) -> Any:
    return load_mapping(
        {
            "root_dir": str(root),
            "validate_dir": str(root),
            "yaml_parser": "load_general_params",
            "train_params": {"max_cav": AGENTS},
            "comm_range": 70,
            "input_source": ["lidar"],
            "label_type": "lidar",
            "fusion": {"core_method": "intermediate", "dataset": "opv2v", "args": {"proj_first": False}},
            "preprocess": {"core_method": "SpVoxelPreprocessor", "args": GRID, "cav_lidar_range": RANGE},
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
    )


def _write(root: Path) -> None:
    """Five agents and their stamps; the clouds are those of a published frame where it is at hand."""
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
        folder = root / "scenario" / str(100 + agent)
        folder.mkdir(parents=True)
        cloud = real[agent % len(real)] if real else _made_cloud(random)
        cloud = _pcd(cloud[random.integers(0, len(cloud), POINTS)], "binary")
        trajectory = random.uniform(-50, 50, (150, 3)).tolist()
        pose = [float(v) for v in (*random.uniform(-15, 15, 2), 1.9, 0.1, random.uniform(-180, 180), 0.2)]
        content = {"lidar_pose": pose, "plan_trajectory": trajectory, "vehicles": vehicles}
        for stamp in range(STAMPS):
            (folder / f"{stamp:06d}.yaml").write_text(yaml.safe_dump(content))
            (folder / f"{stamp:06d}.pcd").write_bytes(cloud)


def _made_cloud(random: np.random.Generator) -> np.ndarray:
    radius, angle = random.exponential(20, POINTS) + 3, random.uniform(-np.pi, np.pi, POINTS)
    height, red = random.uniform(-2, 0.5, POINTS), random.integers(0, 256, POINTS) / 255
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height, red], axis=1).astype(np.float32)


def _pcd(points: np.ndarray, encoding: str) -> bytes:
    count, red = len(points), np.rint(points[:, 3] * 255).astype("<u4") << 16
    header = (
        f"VERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH {count}\nHEIGHT 1\n"
        f"POINTS {count}\nDATA {encoding}\n"
    ).encode()
    if encoding == "ascii":
        rows = (f"{x:.9g} {y:.9g} {z:.9g} {bits}" for (x, y, z), bits in zip(points[:, :3], red, strict=True))
        return header + "\n".join(rows).encode()
    return header + np.column_stack([points[:, :3].astype("<f4").view("<u4"), red]).tobytes()
