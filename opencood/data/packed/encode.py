"""From a file of the source to a block."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from opencood.data.packed.blocks import cloud_block, pixel_block
from opencood.data.packed.layout import Kind, PackOptions
from opencood.data.pcd import decode_cloud
from opencood.data.pictures import decode
from opencood.errors import DataError

_CLOUDS = (".pcd",)
_PICTURES = (".png", ".jpg", ".jpeg")
_TEXTS = (".yaml", ".yml", ".json", ".txt", ".csv", ".pkl", ".pickle")
# Maps of a few colours shrink to almost nothing and decode fast; as pixels they would fill the store.
_WORTH_KEEPING = 10


@dataclass(frozen=True)
class Encoded:
    """A file, ready to be stored.

    Attributes:
        name: relative to the source.
        kind: what the block is.
        block: its bytes.
        shape: of pixels.
        size, mtime_ns, crc: of the file.
        problem: why it could not be decoded and is kept as it is; empty if all is well.
    """

    name: str
    kind: Kind
    block: bytes
    shape: tuple[int, ...]
    size: int
    mtime_ns: int
    crc: int
    problem: str = ""


def encode_file(source: Path, name: str, options: PackOptions) -> Encoded:
    """Read a file of the source and encode it.

    Raises:
        DataError: it cannot be read, or changes meanwhile.
    """
    path, problem = source / name, ""
    content, status = _read(path)
    try:
        kind, block, shape = _encoded(content, path, options)
    except (DataError, OSError, SyntaxError, ValueError) as error:
        kind, block, shape, problem = Kind.BYTES, content, (), f"{path}: {error}".replace(f"{path}: {path}", str(path))
    return Encoded(name, kind, block, shape, len(content), status.st_mtime_ns, zlib.crc32(content), problem)


def _encoded(content: bytes, path: Path, options: PackOptions) -> tuple[Kind, bytes, tuple[int, ...]]:
    ending = PurePosixPath(path.name).suffix.lower()
    if ending in _CLOUDS:
        kind, block = cloud_block(decode_cloud(content, path), options.points)
        return kind, block, ()
    if ending in _PICTURES:
        pixels = decode(content)
        if options.images == "raw" and pixels is not None and pixels.nbytes < _WORTH_KEEPING * len(content):
            return Kind.PIXELS, pixel_block(pixels), pixels.shape
    if ending in _TEXTS:
        deflated = zlib.compress(content, 6)
        if len(deflated) < len(content):
            return Kind.DEFLATED, deflated, ()
    return Kind.BYTES, content, ()


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            content = file.read()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); repair or remove it.") from error
    if len(content) != after.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise DataError(f"{path}: changes while it is packed; wait until the data set is complete.")
    return content, after
