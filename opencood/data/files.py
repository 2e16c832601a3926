"""The only door through which readers reach files: a folder, or a packed store that looks like one.

A store (``data/packed``) is a folder with a manifest. Paths below it name files that were packed: they are found when
no real file has the name, so that every reader works on both, and folders without a store pay nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from opencood.data.packed.blocks import as_file
from opencood.data.packed.layout import JOURNAL, MANIFEST
from opencood.data.packed.store import Store
from opencood.errors import DataError
from opencood.geometry.voxel_groups import VoxelGroups

_ABSENT = (FileNotFoundError, NotADirectoryError)
_open_stores: dict[str, tuple[tuple[int, int], Store]] = {}  # of this process, by folder, with the manifest's version


class Status(Protocol):
    """Size in bytes and time of the last change of a file."""

    @property
    def st_size(self) -> int: ...

    @property
    def st_mtime_ns(self) -> int: ...


class Entry(Protocol):
    """What a folder holds under one name; ``os.DirEntry`` is one."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str: ...

    def is_dir(self) -> bool: ...

    def stat(self) -> Any: ...


def load(path: str | Path) -> bytes | NDArray[Any]:
    """Return the content of a file, or what a store decoded in advance.

    That is an (N, 4) float32 cloud, perhaps with invalid numbers, or (H, W, C) uint8 pixels.

    Raises:
        OSError: there is no such file, or it cannot be read.
        DataError: a store is unfinished, damaged or out of date.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except _ABSENT:
        found = _located(path)
        if found is None:
            raise
        store, name = found
        return store.load(name)


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file; what a store decoded in advance becomes a file of the same content again.

    Raises:
        OSError, DataError: as ``load``.
    """
    content = load(path)
    return as_file(content) if isinstance(content, np.ndarray) else content


def prepared(path: Path, key: str) -> VoxelGroups | None:
    """Return the voxels that a store has of a cloud (see ``data/packed/prepared.py``), or None.

    Raises:
        DataError: the store is unfinished, damaged or out of date.
    """
    if path.exists():  # as everywhere, a real file counts more
        return None
    found = _located(path)
    return None if found is None else found[0].prepared(found[1], key)


def store_around(path: Path) -> Store | None:
    """Return the store that a path lies in, or None.

    Raises:
        DataError: it is unfinished, damaged or out of date.
    """
    found = _located(path)
    return None if found is None else found[0]


def exists(path: Path) -> bool:
    """Whether there is such a file or folder."""
    if path.exists():
        return True
    found = _located(path)
    return found is not None and (found[0].has_file(found[1]) or found[0].has_folder(found[1]))


def is_file(path: Path) -> bool:
    """Whether there is such a file."""
    if path.is_file():
        return True
    found = _located(path)
    return found is not None and found[0].has_file(found[1])


def is_dir(path: Path) -> bool:
    """Whether there is such a folder."""
    if path.is_dir():
        return True
    found = _located(path)
    return found is not None and found[0].has_folder(found[1])


def scan(path: Path) -> list[Entry]:
    """Return what a folder holds, sorted by name.

    Raises:
        OSError: there is no such folder, or it cannot be read.
        DataError: a store is unfinished, damaged or out of date.
    """
    found = _located(path)
    if found is not None:
        store, name = found
        return list(store.entries(name))
    with os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _located(path: str | Path) -> tuple[Store, str] | None:
    """The store around a path, and the name of the path in it."""
    absolute = os.path.abspath(path)
    for folder in _open_stores:  # most often one of these; looking into every folder above takes longer
        if absolute.startswith(folder + os.sep):
            store = _store_at(folder)
            if store is not None:
                return store, absolute[len(folder) :].strip("/")
    folder = absolute
    while True:
        store = _store_at(folder)
        if store is not None:
            return store, absolute[len(folder) :].strip("/")
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent


def _store_at(folder: str) -> Store | None:
    manifest = os.path.join(folder, MANIFEST)
    try:
        status = os.stat(manifest)
    except OSError:
        if os.path.exists(os.path.join(folder, JOURNAL)):
            raise DataError(
                f"{folder}: packing it was not finished; run the same pack_dataset command again, which continues."
            ) from None
        return None
    version = status.st_mtime_ns, status.st_ino
    known = _open_stores.get(folder)
    if known is not None and known[0] == version:
        return known[1]
    store = Store(Path(folder))
    _open_stores[folder] = version, store
    return store
