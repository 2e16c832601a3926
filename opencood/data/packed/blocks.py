"""Blocks of a store: arrays to bytes and back.

A cloud in millimetres takes 8 bytes a point. int16 spans 65.536 m, so a coordinate is a tile of that size (three bits
for x and y, two for z: +-262 m and +-131 m) and the millimetres from its centre; intensity is a byte in 255ths of the
largest one, or of 1, so that that of ``rgb`` files is exact.
"""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from opencood.data.packed.layout import Kind
from opencood.geometry.jit import compiled

_POINT = np.dtype([("offset", "<i2", (3,)), ("tiles", "u1"), ("intensity", "u1")])
_SCALE = np.dtype("<f4")  # in front of the points: the intensity of a byte of 255
_TILE_BITS = 16
_LOWEST_TILE, _HIGHEST_TILE = np.array([-4, -4, -2]), np.array([3, 3, 1])
_TILE_SHIFT = np.array([0, 3, 6])


def cloud_block(cloud: NDArray[np.float32], points: str) -> tuple[Kind, bytes]:
    """Return kind and bytes of an (N, 4) cloud; one that does not fit the wanted precision stays exact.

    Args:
        points: ``exact``, ``float16`` or ``millimetre``.
    """
    if points == "float16":
        with np.errstate(over="ignore"):
            half = cloud.astype("<f2")
        if np.isfinite(half).all():
            return Kind.CLOUD_FLOAT16, half.tobytes()
    if points == "millimetre":
        packed = _in_millimetres(cloud)
        if packed is not None:
            return Kind.CLOUD_MILLIMETRE, packed
    return Kind.CLOUD, np.ascontiguousarray(cloud, "<f4").tobytes()


def pixel_block(pixels: NDArray[np.uint8]) -> bytes:
    """Return (H, W, C) pixels column by column, which is what resizing wants first."""
    return pixels.transpose(1, 0, 2).tobytes()


def decode_block(kind: Kind, block: memoryview, shape: tuple[int, ...]) -> bytes | NDArray[Any]:
    """Return what a block holds: bytes of a file, an (N, 4) cloud of one's own, or (H, W, C) pixels to be read only.

    Raises:
        ValueError, zlib.error: it is damaged.
    """
    if kind == Kind.BYTES:
        return bytes(block)
    if kind == Kind.DEFLATED:
        return zlib.decompress(block)
    if kind == Kind.PIXELS:
        height, width, channels = shape
        return np.frombuffer(block, np.uint8).reshape(width, height, channels).transpose(1, 0, 2)
    if kind == Kind.CLOUD_MILLIMETRE:
        points = np.frombuffer(block, _POINT, offset=_SCALE.itemsize)
        return _from_millimetres(
            points["offset"], points["tiles"], points["intensity"], np.frombuffer(block, _SCALE, 1)[0]
        )
    return np.frombuffer(block, "<f2" if kind == Kind.CLOUD_FLOAT16 else "<f4").reshape(-1, 4).astype(np.float32)


def as_file(content: NDArray[Any]) -> bytes:
    """Return a file that decodes to a cloud (binary PCD) or to pixels (PNG)."""
    if content.ndim == 3:
        buffer = io.BytesIO()
        picture = Image.fromarray(np.ascontiguousarray(content if content.shape[2] > 1 else content[:, :, 0]))
        picture.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()
    header = (
        f"VERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\nWIDTH {len(content)}\n"
        f"HEIGHT 1\nPOINTS {len(content)}\nDATA binary\n"
    )
    return header.encode() + np.ascontiguousarray(content, "<f4").tobytes()


def _in_millimetres(cloud: NDArray[np.float32]) -> bytes | None:
    """None where a coordinate is out of reach, or an intensity is no positive number."""
    if not np.isfinite(cloud).all() or (cloud[:, 3] < 0).any() or np.abs(cloud[:, :3]).max(initial=0) > 1e6:
        return None
    millimetres = np.rint(cloud[:, :3].astype(np.float64) * 1000).astype(np.int64)
    tiles = (millimetres + (1 << (_TILE_BITS - 1))) >> _TILE_BITS
    if ((tiles < _LOWEST_TILE) | (tiles > _HIGHEST_TILE)).any():
        return None
    scale = np.float32(max(1.0, cloud[:, 3].max(initial=0)))
    points = np.empty(len(cloud), _POINT)
    points["offset"] = millimetres - (tiles << _TILE_BITS)
    points["tiles"] = ((tiles - _LOWEST_TILE) << _TILE_SHIFT).sum(axis=1)
    points["intensity"] = np.rint(cloud[:, 3] / scale * 255)
    return np.array(scale, _SCALE).tobytes() + points.tobytes()


@compiled
def _from_millimetres(offsets: NDArray, tiles: NDArray, intensities: NDArray, scale: np.float32) -> NDArray[np.float32]:
    cloud = np.empty((len(tiles), 4), np.float32)
    for n in range(len(tiles)):
        tile = np.int64(tiles[n])
        x, y, z = (tile & 7) - 4, ((tile >> 3) & 7) - 4, (tile >> 6) - 2
        cloud[n, 0] = ((x << _TILE_BITS) + offsets[n, 0]) / 1000
        cloud[n, 1] = ((y << _TILE_BITS) + offsets[n, 1]) / 1000
        cloud[n, 2] = ((z << _TILE_BITS) + offsets[n, 2]) / 1000
        cloud[n, 3] = np.float32(intensities[n]) / np.float32(255) * scale
    return cloud
