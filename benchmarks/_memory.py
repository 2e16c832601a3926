"""What a loader worker holds in memory when the index has 10,000 frames."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import _frames as frames
import numpy as np
import torch
from _timing import Row

from opencood.data.build import build_dataset
from opencood.data.index import Listing
from opencood.data.readers import opv2v

FRAMES, _SCENARIOS = 10_000, 50


def worker_memory(root: Path) -> list[Row]:
    """Resident memory of a worker that has read the metadata of every frame; and the part that nobody shares."""
    for scenario in range(_SCENARIOS):
        for agent in range(frames.AGENTS):
            folder = root / f"{scenario:04d}" / str(100 + agent)
            folder.mkdir(parents=True)
            for stamp in range(FRAMES // _SCENARIOS):
                (folder / f"{stamp:06d}.yaml").touch()
    parse, opv2v.load_index = opv2v.load_index, _synthetic_index
    try:
        build_dataset(frames.hypes(root), train=False)  # writes the cache
    finally:
        opv2v.load_index = parse
    dataset = build_dataset(frames.hypes(root), train=False)
    assert len(dataset) == FRAMES
    loader = torch.utils.data.DataLoader(_Touched(dataset), batch_size=None, num_workers=1)
    resident, private = next(iter(loader))
    label = f"worker, index of {FRAMES:,} frames, {frames.AGENTS} agents, {frames.OBJECTS} objects"
    values = ((f"{label}: resident", resident), (f"{label}: of it private", private))
    return [{"name": name, "value": value, "unit": "MB", "baseline": None, "ratio": None} for name, value in values]


class _Touched(torch.utils.data.Dataset):
    """One item: megabytes of the process after every frame was planned and every array of the index read."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[float, float]:
        for array in self.dataset.reader.index.arrays.values():
            array.sum()
        for number in range(len(self.dataset)):
            self.dataset.reader.frame(number)
        lines = dict(re.findall(r"(\w+):\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text()))
        private = int(lines["Private_Dirty"]) + int(lines["Private_Clean"])
        return int(lines["Rss"]) / 1e3, private / 1e3


def _synthetic_index(root: Path, listing: Listing, parse: Any) -> Any:
    """An index as the parser would make it, at once; it ends in an empty row."""
    from opencood.data.index import Index
    from opencood.data.index_cache import cache_file, write_cache

    rows, random = len(listing.files), np.random.default_rng(0)
    objects = rows * frames.OBJECTS
    cameras = rows * frames.CAMERAS
    arrays = {
        "lidar_pose": random.uniform(-10, 10, (rows + 1, 6)),
        "object_start": np.append(np.arange(rows + 1) * frames.OBJECTS, objects),
        "object_id": np.tile(np.arange(frames.OBJECTS), rows),
        "object_corners": random.uniform(-50, 50, (objects, 8, 3)),
        "object_class": np.ones(objects, np.int64),
        "camera_start": np.append(np.arange(rows + 1) * frames.CAMERAS, cameras),
        "camera_pose": random.uniform(-10, 10, (cameras, 6)),
        "camera_intrinsic": np.tile(np.eye(3), (cameras, 1, 1)),
        "speed": np.zeros(rows + 1),
    }
    write_cache(cache_file(root, listing.fingerprint), {}, arrays)
    return Index(root, listing.tree, {}, arrays)
