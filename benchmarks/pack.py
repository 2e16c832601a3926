"""Packed data sets against their folders: whole samples, to the moment the forward pass may start.

Here "plain" is the raw folder, read by the same code; `data` compares that with published loaders.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import _frames as frames
from _timing import Row, median_seconds, versus

from opencood.data.build import build_dataset
from opencood.data.pcd import read_points
from opencood.experiments.pack import PackOptions, pack

_RUNS = 15


def run() -> list[Row]:
    """Samples and clouds of ASCII, binary and camera data."""
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
        size = sum(file.stat().st_size for file in packed.iterdir()) / 1e6
        before = sum(file.stat().st_size for file in root.rglob("*") if file.is_file()) / 1e6
        rows.append(
            {
                "name": f"packed {title} size, {name}",
                "value": size,
                "unit": "MB",
                "baseline": before,
                "ratio": before / size,
            }
        )
    return rows


def _sample(root: Path, cameras: bool) -> float:
    dataset: Any = build_dataset(frames.hypes(root, cameras), train=False)
    return median_seconds(lambda: dataset.collate_batch_train([dataset[0]]), _RUNS)


def _cloud(path: Path) -> float:
    return median_seconds(lambda: read_points(path), _RUNS)
