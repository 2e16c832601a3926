"""The folder that a store was made from: its files, and whether they are still the same."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from opencood.errors import DataError

_READ_AT_OPENING = 20


def files_of(source: Path) -> Iterator[str]:
    """Yield the names of all files below a folder, relative to it, sorted by their bytes; links are followed.

    Raises:
        DataError: a folder cannot be read, or links lead in a circle.
    """
    names = [name.encode() for name in _walk(source, "", (os.path.realpath(source),))]
    yield from (name.decode() for name in sorted(names))


def _walk(folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read as a folder ({error.strerror or error}).") from error
    for entry in entries:
        name = prefix + entry.name
        if not entry.is_dir():
            yield name
            continue
        real = os.path.realpath(entry.path)
        if real in above:
            raise DataError(f"{entry.path}: a link to a folder around it; remove it.")
        yield from _walk(Path(entry.path), name + "/", (*above, real))


def first_change(source: Path, packed: Iterable[tuple[bytes, Any]]) -> str | None:
    """Return how the first changed file (name, record of the index) differs from what was packed, or None.

    A file with another time and the size of before is read, but not more than a few: copies of a data set have new
    times.
    """
    unread = _READ_AT_OPENING
    for name, record in packed:
        change, other_time = _by_status(source / name.decode(), record)
        if change is None and other_time and unread:
            unread -= 1
            change = _by_content(source / name.decode(), record)
        if change is not None:
            return f"{name.decode()} {change}"
    return None


def change_of(source: Path, name: str, record: Any) -> str | None:
    """Return how a file differs from what was packed, or None; its content is read."""
    path = source / name
    change = _by_status(path, record)[0] or _by_content(path, record)
    return change and f"{name} {change}"


def _by_status(path: Path, record: Any) -> tuple[str | None, bool]:
    """What its size says, and whether it has another time."""
    try:
        status = path.stat()
    except OSError as error:
        return f"cannot be read ({error.strerror or error})", True
    if status.st_size != int(record["source_size"]):
        return f"has {status.st_size} bytes, it had {int(record['source_size'])}", True
    return None, status.st_mtime_ns != int(record["source_mtime_ns"])


def _by_content(path: Path, record: Any) -> str | None:
    try:
        same = zlib.crc32(path.read_bytes()) == int(record["source_crc"])
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None if same else "has another content"
