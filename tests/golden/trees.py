"""Data sets that a case keeps as text and arrays, written out for a reader."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml


def written(files: Mapping[str, Any], cloud_of: Callable[[str], np.ndarray], ending: str = ".bin") -> Path:
    """Write a tree of metadata files (text or documents) with a cloud (N, 4) beside each, and return its folder.

    The folder goes when the interpreter does.
    """
    root = Path(tempfile.mkdtemp(prefix="golden-tree-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for name, content in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        points = cloud_of(name.removesuffix(".yaml")).astype(np.float32)
        place.with_suffix(ending).write_bytes(points.tobytes() if ending == ".bin" else _pcd(points))
    return root


def _pcd(points: np.ndarray) -> bytes:
    header = (
        "VERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nPOINTS {len(points)}\nDATA binary\n"
    )
    return header.encode() + points.tobytes()
