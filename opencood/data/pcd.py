"""Point clouds from ``.pcd`` files (version 0.7: ascii, binary, binary_compressed) and raw ``.bin`` files.

Source: spec data.md, section 2.1. Every damaged file gives a DataError that says what was expected and what was found.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data import files
from opencood.data.lzf import lzf_decode
from opencood.data.plausible import SENSOR_RANGE
from opencood.errors import DataError
from opencood.geometry.jit import compiled

_KINDS = {"F": "f", "U": "u", "I": "i"}
_SIZES = {"F": (4, 8), "U": (1, 2, 4, 8), "I": (1, 2, 4, 8)}
_HEADER_LIMIT = 4096  # bytes; a header is about 200
_PACKED_COLOURS = ("rgb", "rgba")
_ROW_LIMIT = 4096  # bytes of one point; those of the data sets have 16 to 40
_LZF_GAIN = 88  # a reference of three bytes stands for at most 264
_COMPRESSED_SIZES = 8  # two uint32 in front of a compressed body: compressed size, size


@dataclass(frozen=True)
class PcdHeader:
    """What the text in front of the points says.

    Attributes:
        names: one per field.
        dtypes: little-endian dtype of each field.
        counts: values per field and point.
        points: number of points.
        encoding: ``ascii``, ``binary`` or ``binary_compressed``.
        body: offset in bytes of the first point.
    """

    names: tuple[str, ...]
    dtypes: tuple[np.dtype, ...]
    counts: tuple[int, ...]
    points: int
    encoding: str
    body: int

    @property
    def row(self) -> np.dtype:
        """One point as a packed record."""
        fields = zip(self.names, self.dtypes, self.counts, strict=True)
        return np.dtype([(name, kind) if count == 1 else (name, kind, (count,)) for name, kind, count in fields])


def read_points(path: str | Path, *, drop_invalid: bool = False) -> NDArray[np.float32]:
    """Return the (N, 4) float32 cloud ``x, y, z`` (metres, sensor frame) and intensity.

    Intensity is the red byte of a packed ``rgb`` field over 255, or the ``intensity`` field as it is.

    Args:
        path: a ``.pcd`` file.
        drop_invalid: leave out rows with NaN or infinity instead of refusing the file.

    Raises:
        DataError: missing, truncated or corrupt file, no usable fields, no point, or invalid numbers.
    """
    return _valid(read_cloud(path), path, drop_invalid)


def read_cloud(path: str | Path) -> NDArray[np.float32]:
    """Return the cloud of ``read_points`` with invalid rows, if there are any.

    Raises:
        DataError: missing, truncated or corrupt file, or no usable fields.
    """
    content = _loaded(path)
    return content if isinstance(content, np.ndarray) else decode_cloud(content, path)


def decode_cloud(content: bytes, path: str | Path) -> NDArray[np.float32]:
    """Return the (N, 4) cloud of a ``.pcd`` file's content, with invalid rows; ``path`` is for messages.

    Raises:
        DataError: truncated or corrupt content, or no usable fields.
    """
    columns = _columns(content, path)
    missing = [name for name in "xyz" if name not in columns or columns[name].ndim != 1]
    if missing:
        raise DataError(f"{path}: no field {', '.join(missing)} of one value; the file has {', '.join(columns)}.")
    return _side_by_side(columns["x"], columns["y"], columns["z"], _intensity(columns, path))


@compiled
def _side_by_side(x: NDArray, y: NDArray, z: NDArray, intensity: NDArray) -> NDArray[np.float32]:
    """(N, 4) in one pass; the columns are views into records."""
    cloud = np.empty((len(x), 4), np.float32)
    for n in range(len(x)):
        cloud[n, 0], cloud[n, 1], cloud[n, 2], cloud[n, 3] = x[n], y[n], z[n], intensity[n]
    return cloud


def read_bin(path: str | Path, columns: int = 4, *, drop_invalid: bool = False) -> NDArray[np.float32]:
    """Return the (N, 4) cloud of a raw float32 file with ``columns`` values a point (KITTI 4, nuScenes and V2X-Sim 5).

    Raises:
        DataError: missing file, a size that is no whole number of points, no point, or invalid numbers.
    """
    content = _content(path)
    width = 4 * columns
    if len(content) % width:
        raise DataError(
            f"{path}: {len(content)} bytes are not a whole number of points of {width} bytes; truncated file?"
        )
    cloud = np.frombuffer(content, np.float32).reshape(-1, columns)[:, :4].copy()
    return _valid(cloud, path, drop_invalid)


def read_pcd(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return all fields of a ``.pcd`` file by name, (N,) or (N, count), in the types the header declares.

    Raises:
        DataError: missing, truncated or corrupt file.
    """
    return _columns(_content(path), path)


def _columns(content: bytes, path: str | Path) -> dict[str, NDArray[Any]]:
    header = parse_header(content, path)
    if header.encoding == "ascii":
        return _ascii(content, header, path)
    if header.encoding == "binary":
        return _binary(content, header, path)
    return _compressed(content, header, path)


def parse_header(content: bytes, path: str | Path) -> PcdHeader:
    """Return the header of a file's content.

    Raises:
        DataError: an entry is missing or contradicts another.
    """
    entries: dict[str, list[str]] = {}
    offset = 0
    while "DATA" not in entries:
        end = content.find(b"\n", offset, _HEADER_LIMIT)
        if end < 0:
            raise DataError(f"{path}: no PCD header ending in a DATA line; is it a point cloud, or truncated?")
        words = content[offset:end].decode("ascii", "replace").split()
        offset = end + 1
        if words and not words[0].startswith("#"):
            entries[words[0].upper()] = words[1:]
    try:
        return _header(entries, offset)
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(
            f"{path}: unreadable PCD header ({error}); fields, sizes, types and points are needed."
        ) from error


def _header(entries: dict[str, list[str]], body: int) -> PcdHeader:
    names, types = entries["FIELDS"], [word.upper() for word in entries["TYPE"]]
    sizes = [int(word) for word in entries["SIZE"]]
    counts = [int(word) for word in entries.get("COUNT", ["1"] * len(names))]
    if not len(names) == len(sizes) == len(types) == len(counts):
        raise ValueError(f"{len(names)} fields, {len(sizes)} sizes, {len(types)} types, {len(counts)} counts")
    for name, kind, size in zip(names, types, sizes, strict=True):
        if size not in _SIZES.get(kind, ()):
            raise ValueError(f"field {name} of type {kind}{size}")
    if min(counts, default=1) < 1:
        raise ValueError(f"COUNT {' '.join(map(str, counts))}")
    if len(set(names)) < len(names):
        raise ValueError(f"a field is given twice: {' '.join(names)}")
    points = _point_count(entries)
    encoding = entries["DATA"][0].lower() if entries["DATA"] else ""
    if encoding not in ("ascii", "binary", "binary_compressed"):
        raise ValueError(f"DATA {encoding}")
    dtypes = tuple(np.dtype(f"<{_KINDS[kind]}{size}") for kind, size in zip(types, sizes, strict=True))
    if sum(size * count for size, count in zip(sizes, counts, strict=True)) > _ROW_LIMIT:
        raise ValueError(f"COUNT {' '.join(map(str, counts))}")
    return PcdHeader(tuple(names), dtypes, tuple(counts), points, encoding, body)


def _point_count(entries: dict[str, list[str]]) -> int:
    """``POINTS``, or ``WIDTH`` times ``HEIGHT``; both where both are given."""
    stated = [int(entries["POINTS"][0])] if "POINTS" in entries else []
    if not stated or ("WIDTH" in entries and "HEIGHT" in entries):
        stated.append(int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0]))
    if min(stated) < 0 or len(set(stated)) > 1:
        raise ValueError(f"POINTS and WIDTH x HEIGHT say {' and '.join(map(str, stated))}")
    return stated[0]


def _ascii(content: bytes, header: PcdHeader, path: str | Path) -> dict[str, NDArray[Any]]:
    width = sum(header.counts)
    expected = header.points * width
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # how NumPy reports text that is no number
            numbers = np.fromstring(content[header.body :].decode("ascii"), dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise DataError(f"{path}: the ASCII points hold something that is no number; corrupt file.") from error
    if numbers.size != expected:
        found = f"{numbers.size / width:g}"
        raise DataError(
            f"{path}: truncated point cloud: expected {header.points} rows of {width} numbers, found {found}."
        )
    rows, columns, start = numbers.reshape(-1, width), {}, 0
    for name, kind, count in zip(header.names, header.dtypes, header.counts, strict=True):
        values = rows[:, start] if count == 1 else rows[:, start : start + count]
        columns[name] = values.astype(kind)
        start += count
    return columns


def _binary(content: bytes, header: PcdHeader, path: str | Path) -> dict[str, NDArray[Any]]:
    expected, found = header.points * header.row.itemsize, len(content) - header.body
    if found < expected:
        raise DataError(
            f"{path}: truncated point cloud: expected {expected} bytes for {header.points} points, found {found}."
        )
    if header.points and found >= expected + header.row.itemsize:
        raise DataError(
            f"{path}: corrupt point cloud: {header.points} points take {expected} bytes, the file holds {found}."
        )
    rows = np.frombuffer(content, header.row, count=header.points, offset=header.body)
    return {name: rows[name] for name in header.names}


def _compressed(content: bytes, header: PcdHeader, path: str | Path) -> dict[str, NDArray[Any]]:
    start = header.body + _COMPRESSED_SIZES
    if len(content) < start:
        raise DataError(f"{path}: truncated point cloud: the sizes of the compressed points are missing.")
    packed, size = (int(value) for value in np.frombuffer(content, "<u4", count=2, offset=header.body))
    expected = header.points * header.row.itemsize
    if size != expected or size > packed * _LZF_GAIN:
        raise DataError(
            f"{path}: corrupt point cloud: {header.points} points take {expected} bytes, the file says {size}, "
            f"made of {packed}."
        )
    if len(content) - start < packed:
        raise DataError(
            f"{path}: truncated point cloud: expected {packed} compressed bytes, found {len(content) - start}."
        )
    try:
        plain = lzf_decode(content[start : start + packed], size)
    except ValueError as error:
        raise DataError(f"{path}: corrupt compressed point cloud: {error}.") from error
    columns, offset = {}, 0
    for name, kind, count in zip(header.names, header.dtypes, header.counts, strict=True):
        values = np.frombuffer(plain, kind, count=header.points * count, offset=offset)
        columns[name] = values if count == 1 else values.reshape(header.points, count)
        offset += values.nbytes
    return columns


def _intensity(columns: dict[str, NDArray[Any]], path: str | Path) -> NDArray[np.float32]:
    for name in _PACKED_COLOURS:
        if name in columns:
            packed = columns[name]
            # A float field holds the bit pattern 0x00RRGGBB, an integer field is the pattern itself.
            bits = (
                np.ascontiguousarray(packed).view(np.uint32) if packed.dtype.itemsize == 4 else packed.astype(np.uint32)
            )
            return ((bits >> 16) & 0xFF).astype(np.float32) / np.float32(255)
    if "intensity" in columns:
        return columns["intensity"].astype(np.float32)
    raise DataError(f"{path}: no intensity; expected a field rgb or intensity, found {', '.join(columns)}.")


def _valid(cloud: NDArray[np.float32], path: str | Path, drop_invalid: bool) -> NDArray[np.float32]:
    if cloud.size and not max(cloud.max(), -cloud.min()) <= SENSOR_RANGE:  # also when there is a NaN
        finite = np.isfinite(cloud).all(axis=1)
        if np.abs(cloud[finite]).max(initial=0) > SENSOR_RANGE:
            raise DataError(f"{path}: holds points farther than {SENSOR_RANGE:g} m, or such intensities; corrupt file.")
        if not drop_invalid:
            raise DataError(f"{path}: {int((~finite).sum())} of {len(cloud)} points are NaN or infinite; corrupt file.")
        cloud = cloud[finite]
    if not len(cloud):
        raise DataError(f"{path}: the cloud holds no valid point.")
    if not cloud[:, :3].any():
        raise DataError(f"{path}: all {len(cloud)} points are 0, 0, 0; an unfinished download?")
    return cloud


def _content(path: str | Path) -> bytes:
    content = _loaded(path)
    return files.as_file(content) if isinstance(content, np.ndarray) else content


def _loaded(path: str | Path) -> bytes | NDArray[Any]:
    try:
        return files.load(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); is the data set complete?") from error
