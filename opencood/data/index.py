"""The index of a data folder: which scenarios, agents and stamps exist, and what every metadata file says.

Metadata is parsed once and kept in a cache file (``index_cache.py``) that is keyed by the names, sizes and modification
times of all metadata files: a second start parses nothing, a changed folder is read anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from opencood.data import files
from opencood.data.files import Entry
from opencood.data.index_cache import cache_file, read_cache, write_cache
from opencood.errors import DataError

log = logging.getLogger(__name__)

_FORMAT = 3  # raise it when the content of the cache file changes
_ANNOUNCE_AFTER = 500  # files; parsing them takes some seconds


@dataclass(frozen=True)
class Moment:
    """What one metadata file says about one agent at one stamp (world frame, metres, degrees).

    Attributes:
        lidar_pose: (6,).
        object_ids: (n,) int64.
        object_corners: (n, 8, 3).
        object_classes: (n,) int64, counted from 1.
        camera_poses: (k, 6).
        camera_intrinsics: (k, 3, 3) pixels.
        speed: km/h; 0 where the file does not tell it.
    """

    lidar_pose: NDArray[np.float64]
    object_ids: NDArray[np.int64]
    object_corners: NDArray[np.float64]
    object_classes: NDArray[np.int64]
    camera_poses: NDArray[np.float64]
    camera_intrinsics: NDArray[np.float64]
    speed: float = 0.0


@dataclass(frozen=True)
class Track:
    """One agent of one scenario: its stamps in time order, and the row of the first one in the index."""

    stamps: tuple[str, ...]
    first_row: int

    def row(self, stamp: str) -> int | None:
        """Row of a stamp, or None when the agent has none."""
        position = int(np.searchsorted(self.stamps, stamp))
        found = position < len(self.stamps) and self.stamps[position] == stamp
        return self.first_row + position if found else None


@dataclass(frozen=True)
class Listing:
    """The metadata files of a folder, in row order, with the tree they form.

    Attributes:
        tree: scenario -> agent -> track, all sorted.
        files: one path per row, relative to the root.
        fingerprint: digest over names, sizes and modification times.
    """

    tree: dict[str, dict[str, Track]]
    files: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class Index:
    """All metadata of a split. Rows are (scenario, agent, stamp); objects and cameras are stacked over rows."""

    root: Path
    tree: dict[str, dict[str, Track]]
    problems: dict[int, str]
    arrays: dict[str, NDArray[Any]]

    def moment(self, row: int) -> Moment:
        """Return what the metadata file of a row says.

        Raises:
            DataError: the file is broken; the message is that of the parser.
        """
        if row in self.problems:
            raise DataError(self.problems[row])
        objects = slice(*self.arrays["object_start"][row : row + 2])
        cameras = slice(*self.arrays["camera_start"][row : row + 2])
        return Moment(
            self.arrays["lidar_pose"][row],
            self.arrays["object_id"][objects],
            self.arrays["object_corners"][objects],
            self.arrays["object_class"][objects],
            self.arrays["camera_pose"][cameras],
            self.arrays["camera_intrinsic"][cameras],
            float(self.arrays["speed"][row]),
        )


def load_index(root: Path, listing: Listing, parse: Callable[[Path], Moment]) -> Index:
    """Return the index of a listed folder, from the cache when nothing changed, else by parsing every file.

    A file that cannot be parsed becomes a problem of its row. A cache that cannot be written is logged, no error.
    """
    place = cache_file(root, listing.fingerprint)
    cached = read_cache(place)
    if cached is None:
        if len(listing.files) > _ANNOUNCE_AFTER:
            log.info("Indexing %d metadata files of %s (once; kept in %s).", len(listing.files), root, place.parent)
        cached = _parse_all(root, listing.files, parse)
        write_cache(place, *cached)
    problems, arrays = cached
    return Index(root, listing.tree, problems, arrays)


def list_tracks(root: Path, tracks: Iterable[tuple[str, str, list[Entry]]], dialect: str = "") -> Listing:
    """Build a listing from (scenario, agent, metadata files), everything in sorted order.

    ``dialect`` names how the files are read: the same folder read otherwise has another index.
    """
    tree: dict[str, dict[str, Track]] = {}
    files: list[str] = []
    digest = hashlib.sha256(f"{_FORMAT} {dialect} {root.resolve()}".encode())
    for scenario, agent, entries in tracks:
        stamps = tuple(entry.name.partition(".")[0] for entry in entries)
        tree.setdefault(scenario, {})[agent] = Track(stamps, len(files))
        for entry in entries:
            name = f"{scenario}/{agent}/{entry.name}"
            digest.update(f"{name} {_version(entry)}\n".encode())
            files.append(name)
    return Listing(tree, tuple(files), digest.hexdigest())


def _version(entry: Entry) -> str:
    """What changes when the file does; a link to nothing is left to the parser, which names it."""
    try:
        status = entry.stat()
    except OSError:
        return "unreadable"
    return f"{status.st_size} {status.st_mtime_ns}"


def entries_of(path: Path) -> list[Entry]:
    """What a folder holds, sorted by name.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        return files.scan(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read as a folder ({error.strerror or error}).") from error


def folders_of(path: Path) -> list[Entry]:
    """Folders inside a folder, sorted by name; without what other programs leave (``.cache``, ``__MACOSX``).

    Raises:
        DataError: the folder cannot be read.
    """
    return [entry for entry in entries_of(path) if entry.is_dir() and not entry.name.startswith((".", "__"))]


def _parse_all(
    root: Path, files: tuple[str, ...], parse: Callable[[Path], Moment]
) -> tuple[dict[int, str], dict[str, NDArray[Any]]]:
    none = np.zeros(0, np.int64)
    empty = Moment(np.zeros(6), none, np.zeros((0, 8, 3)), none, np.zeros((0, 6)), np.zeros((0, 3, 3)))
    problems: dict[int, str] = {}
    moments = []
    shown = tqdm(files, desc=f"Indexing {root}", unit="file", disable=None if len(files) > _ANNOUNCE_AFTER else True)
    for row, name in enumerate(shown):
        try:
            moments.append(parse(root / name))
        except DataError as error:
            problems[row] = str(error)
            moments.append(empty)
    moments.append(empty)  # so that an empty list of files still has shapes
    arrays = {
        "lidar_pose": np.stack([moment.lidar_pose for moment in moments]),
        "speed": np.array([moment.speed for moment in moments]),
        "object_start": _starts([len(moment.object_ids) for moment in moments]),
        "object_id": np.concatenate([moment.object_ids for moment in moments]),
        "object_corners": np.concatenate([moment.object_corners for moment in moments]),
        "object_class": np.concatenate([moment.object_classes for moment in moments]),
        "camera_start": _starts([len(moment.camera_poses) for moment in moments]),
        "camera_pose": np.concatenate([moment.camera_poses for moment in moments]),
        "camera_intrinsic": np.concatenate([moment.camera_intrinsics for moment in moments]),
    }
    return problems, arrays


def _starts(lengths: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
