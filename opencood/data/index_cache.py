"""The file that keeps a parsed index: an uncompressed ``.npz`` whose arrays are mapped to memory instead of read.

It lies in ``$OPENCOOD_CACHE``, else ``~/.cache/opencood``. Loader workers share the mapped pages, so that an index of
10,000 frames (400 MB) costs each of them next to nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import struct
import tempfile
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

_NPY_HEADER_LIMIT = 4096  # bytes
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip entry: lengths of its name and of its extra field


def cache_folder() -> Path:
    """Where caches live: ``$OPENCOOD_CACHE``, else ``~/.cache/opencood``."""
    return Path(os.environ.get("OPENCOOD_CACHE") or Path.home() / ".cache" / "opencood")


def cache_file(root: Path, fingerprint: str) -> Path:
    folder = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return cache_folder() / "index" / folder / f"{fingerprint[:32]}.npz"


def read_cache(place: Path) -> tuple[dict[int, str], dict[str, NDArray[Any]]] | None:
    try:
        arrays = _mapped_arrays(place)
        problems = json.loads(arrays.pop("problems").tobytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("The index cache %s is unreadable (%s); parsing the folder again.", place, error)
        return None
    return {int(row): message for row, message in problems.items()}, arrays


def write_cache(place: Path, problems: dict[int, str], arrays: dict[str, NDArray[Any]]) -> None:
    encoded = np.frombuffer(json.dumps(problems).encode(), np.uint8)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        outdated = [old for old in place.parent.glob("*.npz") if old != place]
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="part-") as scratch:
            part = Path(scratch) / place.name
            np.savez(part, **{"problems": encoded, **arrays})  # type: ignore[arg-type]
            os.replace(part, place)
        for old in outdated:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("The index cache %s cannot be written (%s); the next start parses the folder again.", place, error)


def _mapped_arrays(place: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an uncompressed ``.npz``, read only, with their checksums compared.

    Raises:
        OSError, ValueError, BadZipFile: no such file, or it is damaged.
    """
    with zipfile.ZipFile(place) as listing, place.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return {entry.filename.removesuffix(".npy"): _array(content, entry) for entry in listing.infolist()}


def _array(content: memoryview, entry: zipfile.ZipInfo) -> NDArray[Any]:
    start = entry.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack_from(content, entry.header_offset))
    member = content[start : start + entry.file_size]
    if entry.compress_type != zipfile.ZIP_STORED or zlib.crc32(member) != entry.CRC:
        raise zipfile.BadZipFile(f"{entry.filename} is damaged")
    head = BytesIO(member[:_NPY_HEADER_LIMIT])
    version = np.lib.format.read_magic(head)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = reader(head)
    return np.frombuffer(member, kind, int(np.prod(shape)), offset=head.tell()).reshape(shape)
