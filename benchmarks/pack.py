"""Packed data sets against their folders: whole samples, to the moment the forward pass may start.

Here "plain" is the raw folder, read by the same code; `data` compares that with published loaders. What a batch makes
late and a detector needs (voxels made in advance, pictures) is written out within the time; dense targets, which only
the loss needs, are in the rows that say so.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import _frames as frames
import torch
from _timing import Row, median_seconds, versus

from opencood.batch import to_device
from opencood.data.build import build_dataset
from opencood.data.pcd import read_points
from opencood.experiments.pack import PackOptions, pack
from opencood.experiments.prepare import prepare

_RUNS = 25
_LABELS = ("label_dict", "label_dict_single")


def run() -> list[Row]:
    """Samples and clouds of ASCII, binary and camera data."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["OPENCOOD_CACHE"] = str(Path(scratch) / "cache")
        rows = []
        for name, encoding, cameras in (("ascii pcd", "ascii", False), ("binary pcd", "binary", False),
                                        ("binary pcd and pictures", "binary", True)):  # fmt: skip
            rows += _compared(name, Path(scratch) / name.replace(" ", "_"), encoding, cameras)
        return rows


def _compared(name: str, root: Path, encoding: str, cameras: bool) -> list[Row]:
    frames.write(root, encoding, cameras)
    plain = _sample(root, cameras)
    rows = []
    for title, options in (("exact", PackOptions(images="raw")), ("millimetre", PackOptions("millimetre", "raw"))):
        packed = root.with_name(f"{root.name}_{title}")
        pack(root, packed, options)
        rows.append(versus(f"packed {title} sample, {name}", _sample(packed, cameras), plain))
        if not cameras:
            cloud = f"{frames.SCENARIO}/100/000000.pcd"
            rows.append(versus(f"packed {title} cloud, {name}", _cloud(packed / cloud), _cloud(root / cloud)))
        rows.append(_size(f"packed {title} size, {name}", packed, root))
    packed = root.with_name(f"{root.name}_exact")
    prepare(packed, frames.hypes(packed, cameras))
    rows.append(versus(f"prepared sample, {name}", _sample(packed, cameras), plain))
    dense = f"prepared sample with dense targets, {name}"
    rows.append(versus(dense, _sample(packed, cameras, dense=True), _sample(root, cameras, dense=True)))
    rows.append(_size(f"prepared size, {name}", packed, root))
    return rows


def _sample(root: Path, cameras: bool, dense: bool = False) -> float:
    dataset: Any = build_dataset(frames.hypes(root, cameras), train=False)

    def ready() -> Mapping[str, Any]:
        batch = dataset.collate_batch_train([dataset[0]])["ego"]
        return to_device({key: value for key, value in batch.items() if dense or key not in _LABELS}, "cpu")

    return median_seconds(ready, _RUNS)


def _size(label: str, packed: Path, root: Path) -> Row:
    files = ((file for file in folder.rglob("*") if file.is_file()) for folder in (packed, root))
    size, before = (sum(file.stat().st_size for file in each) / 1e6 for each in files)
    return {"name": label, "value": size, "unit": "MB", "baseline": before, "ratio": before / size}


def _cloud(path: Path) -> float:
    return median_seconds(lambda: read_points(path), _RUNS)
