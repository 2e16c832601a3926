"""Point clouds as PCD v0.7 with the intensity in the red byte of ``rgb`` (``spec/data.md`` section 2.1)."""

from __future__ import annotations

import numpy as np

_HEADER = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS x y z rgb
SIZE 4 4 4 4
TYPE F F F U
COUNT 1 1 1 1
WIDTH {count}
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS {count}
DATA binary
"""
_RECORD = np.dtype([("xyz", "<f4", 3), ("rgb", "<u4")])


def pcd_bytes(points: np.ndarray) -> bytes:
    """A binary PCD file from points (N, 4) = x, y, z, intensity in 0 to 1 (stored in 256 steps)."""
    records = np.empty(len(points), dtype=_RECORD)
    records["xyz"] = points[:, :3]
    red = np.clip(np.round(points[:, 3] * 255), 0, 255).astype(np.uint32)
    records["rgb"] = red << 16
    return _HEADER.format(count=len(points)).encode() + records.tobytes()
