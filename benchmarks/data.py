"""From files to the batch: five agents with 60,000 points and 40 objects each, on the published LiDAR grid.

Times of whole samples run from a warm index to the moment the forward pass may start, collation and transfer included;
voxelization and targets are the worker's. The plain baseline works as published loaders do: pure-Python YAML at every
access, one object at a time, pictures through Pillow, and for every label set dense overlaps of all anchors (whose
corners are computed anew) with all objects. Clouds, voxels and pictures are alike.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _frames as frames
import numpy as np
import torch
import yaml
from _memory import worker_memory
from _timing import Row, median_seconds, versus
from PIL import Image

from opencood.batch import to_device
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.data.images import build_image_augmentation, normalised
from opencood.data.pcd import read_points
from opencood.data.readers.opv2v_metadata import parse_metadata
from opencood.experiments.devices import choose_device, synchronize
from opencood.geometry.boxes import boxes_to_corners_3d, corners_in_range, corners_to_boxes, standup_boxes
from opencood.geometry.coding import encode_boxes
from opencood.geometry.poses import transform_points, x1_to_x2
from opencood.registry import REGISTRY

_WORKERS, _BATCHES = 2, 120


def run() -> list[Row]:
    """Figures of reading, starting, building, collating, and of loader workers."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["OPENCOOD_CACHE"] = str(Path(scratch) / "cache")
        root, pictures = Path(scratch) / "data", Path(scratch) / "pictures"
        frames.write(root)
        frames.write(pictures, cameras=True)
        lidar = f"sample, {frames.AGENTS} agents x {frames.POINTS // 1000}k points"
        cameras = f"sample, 3 LiDAR agents, {len(frames.CAMERA_AGENTS)} with {frames.CAMERAS} pictures 800x600"
        rows = _files(root) + _start(root)
        rows += _samples(lidar, frames.hypes(root), root) + _samples(cameras, frames.hypes(pictures, True), pictures)
        return rows + worker_memory(Path(scratch) / "many")


def _files(root: Path) -> list[Row]:
    binary, metadata = next(root.rglob("*.pcd")), next(root.rglob("*.yaml"))
    text = binary.with_suffix(".txt.pcd")
    text.write_bytes(frames.pcd(read_points(binary), "ascii"))
    label = f"pcd, {frames.POINTS // 1000}k points"
    rows = [
        versus(f"read binary {label}", *_both(lambda: read_points(binary), lambda: _plain_binary(binary))),
        versus(f"read ascii {label}", *_both(lambda: read_points(text), lambda: _plain_ascii(text))),
    ]
    text.unlink()
    parse = _both(lambda: parse_metadata(metadata), lambda: yaml.load(metadata.read_text(), yaml.SafeLoader))
    return [*rows, versus(f"parse metadata, {frames.OBJECTS} objects", *parse)]


def _start(root: Path) -> list[Row]:
    hypes = frames.hypes(root)

    def first() -> None:
        for cache in Path(os.environ["OPENCOOD_CACHE"]).rglob("*.npz"):
            cache.unlink()
        build_dataset(hypes, train=False)

    cold = median_seconds(first, runs=3)
    warm = median_seconds(lambda: build_dataset(hypes, train=False))
    return [versus(f"second start, {frames.AGENTS * frames.STAMPS} files", warm, cold)]


def _samples(label: str, hypes: Any, root: Path) -> list[Row]:
    """One sample to the device, and what loader workers deliver."""
    dataset, device = build_dataset(hypes, train=False), choose_device()

    def batch() -> Any:
        return dataset.collate_batch_train([dataset[0]])

    ready = batch()

    def moved() -> None:
        to_device(ready, device)
        synchronize(device)

    worker, transfer = median_seconds(batch, runs=15), 0.0 if device.type == "cpu" else median_seconds(moved, runs=15)
    plain = median_seconds(lambda: _plain_sample(dataset, root), runs=3)
    row = versus(label, worker + transfer, plain) | {"worker": worker * 1e3, "device": transfer * 1e3}
    return [row, _throughput(f"{label}; {_WORKERS} workers", dataset)]


def _throughput(label: str, dataset: Any) -> Row:
    """Samples a second of a loader, without those of its start."""
    chosen = [index % len(dataset) for index in range(_BATCHES)]
    loader = torch.utils.data.DataLoader(
        dataset, sampler=chosen, collate_fn=dataset.collate_batch_train, num_workers=_WORKERS
    )
    batches = iter(loader)
    for _ in range(2 * _WORKERS):
        next(batches)
    started = time.perf_counter()
    count = sum(1 for _ in batches)
    return {
        "name": label,
        "value": count / (time.perf_counter() - started),
        "unit": "samples/s",
        "baseline": None,
        "ratio": None,
    }


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
    preprocessor = REGISTRY.get("preprocessor", "SpVoxelPreprocessor").target(
        **frames.GRID, cav_lidar_range=frames.RANGE
    )
    merged: dict[int, np.ndarray] = {}
    for agent in frame.agents:
        metadata = yaml.load((root / frame.scenario / agent.id / f"{frame.stamp}.yaml").read_text(), yaml.SafeLoader)
        if agent.modality == "m2":
            _plain_pictures(agent)
        else:
            points = agent.lidar.read()
            preprocessor.preprocess(points[np.random.permutation(len(points))])
        own = _plain_boxes(metadata["vehicles"], agent.lidar_pose)
        merged = _plain_boxes(metadata["vehicles"], frame.ego.lidar_pose) | merged
        _plain_targets(list(own.values()), anchors)
    _plain_targets(list(merged.values()), anchors)


def _plain_pictures(agent: Any) -> None:
    augmentation = build_image_augmentation(frames.PICTURES, "here")
    np.stack(
        [
            normalised(augmentation.draw(False, Draws.keyed(0)).apply(Image.open(camera.image).convert("RGB")))
            for camera in agent.cameras
        ]
    )


def _plain_boxes(vehicles: dict[int, Any], reference: np.ndarray) -> dict[int, np.ndarray]:
    boxes = {}
    signs = boxes_to_corners_3d(np.array([[0, 0, 0, 2, 2, 2, 0]], np.float64), "lwh")[0]
    for name, vehicle in vehicles.items():
        pose = np.concatenate([np.add(vehicle["location"], vehicle["center"]), vehicle["angle"]])
        corners = transform_points(signs * np.array(vehicle["extent"]), x1_to_x2(pose, reference))
        box = corners_to_boxes(corners[None], "hwl")
        if corners_in_range(boxes_to_corners_3d(box, "hwl"), frames.RANGE)[0]:
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
