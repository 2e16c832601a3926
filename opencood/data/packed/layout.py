"""What a packed store looks like on disk.

    pack.json        manifest, written last: a folder with it is a complete store
    pack.partial     journal of an unfinished store, one line per packed file
    index.bin        names of all files, sorted, and one record for each
    data-00000.bin   the blocks of the files, one behind the other, without gaps

Every block, the index and the manifest have a CRC-32.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from opencood.errors import ConfigError, DataError

MANIFEST, JOURNAL, INDEX = "pack.json", "pack.partial", "index.bin"
FORMAT = 1  # raise it when the meaning of anything here changes
SEGMENT_BYTES = 1 << 30
AGAIN = "pack the data set again (pack_dataset SOURCE OUT --overwrite)"
POINTS, IMAGES = ("exact", "float16", "millimetre"), ("keep", "raw")


class Kind(IntEnum):
    """How a block holds a file."""

    BYTES = 0  # as it is
    DEFLATED = 1  # zlib
    CLOUD = 2  # (N, 4) float32
    CLOUD_FLOAT16 = 3  # (N, 4) float16
    CLOUD_MILLIMETRE = 4  # see blocks.py
    PIXELS = 5  # (W, H, C) uint8, column by column


RECORD = np.dtype(
    [
        ("kind", "<u4"),
        ("segment", "<u4"),
        ("offset", "<u8"),
        ("length", "<u8"),
        ("crc", "<u4"),
        ("shape", "<u4", (3,)),
        ("source_size", "<u8"),
        ("source_mtime_ns", "<i8"),
        ("source_crc", "<u4"),
    ]
)


@dataclass(frozen=True)
class PackOptions:
    """How files are packed.

    Attributes:
        points: ``exact`` (float32), ``float16`` (3 cm at 50 m, 6 cm at 100 m) or ``millimetre`` (int16 steps of 1 mm).
        images: ``keep`` the compressed files, or decode them to ``raw`` pixels, which are read at once.
    """

    points: str = "exact"
    images: str = "keep"

    def __post_init__(self) -> None:
        for key, known in (("points", POINTS), ("images", IMAGES)):
            value = getattr(self, key)
            if value not in known:
                raise ConfigError(f"--{key}: '{value}' is none of {', '.join(known)}.")

    @property
    def lossless(self) -> bool:
        """Whether samples are the same to the bit."""
        return self.points == "exact"


@dataclass(frozen=True)
class Manifest:
    """What ``pack.json`` says.

    Attributes:
        source: folder that was packed.
        options: see ``PackOptions``.
        files: number of files.
        name_bytes: length of the names in the index.
        index_crc: CRC-32 of ``index.bin``.
        segments: bytes of each data file.
    """

    source: str
    options: dict[str, str]
    files: int
    name_bytes: int
    index_crc: int
    segments: list[int]
    format: int = FORMAT

    def text(self) -> str:
        """The file's content, with its own checksum."""
        content = asdict(self)
        return json.dumps(content | {"checksum": _checksum(content)}, indent=1) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a store.

    Raises:
        DataError: it is damaged, or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop("checksum")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: the manifest of the packed data set is damaged; {AGAIN}.") from error
    if checksum != _checksum(content):
        raise DataError(f"{path}: the manifest of the packed data set is damaged (checksum differs); {AGAIN}.")
    if content.get("format") != FORMAT or set(content) != {field.name for field in fields(Manifest)}:
        raise DataError(f"{path}: packed by another version (format {content.get('format')}, not {FORMAT}); {AGAIN}.")
    return Manifest(**content)


def segment_name(number: int) -> str:
    """Name of a data file."""
    return f"data-{number:05d}.bin"


def _checksum(content: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
