"""Point clouds (N, 4) = x, y, z, intensity in 0 to 1 as files (``spec/data.md`` section 2)."""

from __future__ import annotations

import numpy as np

_HEADER = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS x y z {field}
SIZE 4 4 4 4
TYPE F F F {type}
COUNT 1 1 1 1
WIDTH {count}
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS {count}
DATA binary
"""
_RECORD = np.dtype([("xyz", "<f4", 3), ("rgb", "<u4")])


def pcd_bytes(points: np.ndarray) -> bytes:
    """A binary PCD file with the intensity, in 256 steps, in the red byte of ``rgb``."""
    records = np.empty(len(points), dtype=_RECORD)
    records["xyz"] = points[:, :3]
    red = np.clip(np.round(points[:, 3] * 255), 0, 255).astype(np.uint32)
    records["rgb"] = red << 16
    return _HEADER.format(field="rgb", type="U", count=len(points)).encode() + records.tobytes()


def pcd_intensity_bytes(points: np.ndarray, scale: float) -> bytes:
    """A binary PCD file with a column ``intensity``: the intensity times ``scale``."""
    values = points.astype("<f4") * np.array([1, 1, 1, scale], "<f4")
    return _HEADER.format(field="intensity", type="F", count=len(points)).encode() + values.tobytes()


def bin_bytes(points: np.ndarray, columns: int = 4) -> bytes:
    """Raw float32 rows; columns beyond the fourth are zero."""
    rows = np.zeros((len(points), columns), "<f4")
    rows[:, :4] = points
    return rows.tobytes()
