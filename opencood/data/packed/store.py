"""Reading a packed store."""

from __future__ import annotations

import mmap
import os
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.data.packed.blocks import decode_block
from opencood.data.packed.layout import AGAIN, INDEX, MANIFEST, RECORD, Kind, Manifest, read_manifest, segment_name
from opencood.data.packed.prepared import PREFIX, groups_of
from opencood.data.packed.source import first_change
from opencood.errors import DataError
from opencood.geometry.voxel_groups import VoxelGroups

PREPARE_AGAIN = "prepare again (pack_dataset PACKED --prepare YAML)"
_SOURCE_CHECKS = 20_000  # files of the source that are looked at when a store is opened; --verify looks at all


@dataclass(frozen=True)
class PackedStatus:
    """Size and time of the file that was packed."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class PackedEntry:
    """A name in a folder of a store; like ``os.DirEntry``."""

    name: str
    path: str
    status: PackedStatus | None  # None: a folder

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.status is None

    def stat(self) -> PackedStatus:
        """Size and time of the packed file."""
        return self.status or PackedStatus(0, 0)


class Names:
    """All names, sorted by their UTF-8 bytes, in the memory that the index is mapped to."""

    def __init__(self, text: memoryview, ends: NDArray[np.uint64]) -> None:
        self._text = text
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> bytes:
        start = int(self._ends[row - 1]) if row else 0
        return bytes(self._text[start : int(self._ends[row])])


class Store:
    """A packed data set.

    Args:
        folder: with a manifest.
        is_part: it lies in another one, of which it was prepared, and has no source of its own.

    Raises:
        DataError: manifest or index are damaged, a data file has another size, or the packed files have changed.
    """

    def __init__(self, folder: Path, is_part: bool = False) -> None:
        self.folder = folder
        self._repair = PREPARE_AGAIN if is_part else AGAIN
        self.manifest: Manifest = read_manifest(folder)
        index = self._mapped(INDEX)
        if zlib.crc32(index) != self.manifest.index_crc:
            raise DataError(f"{folder / INDEX}: the index of the packed data set is damaged; {self._repair}.")
        count, text = self.manifest.files, self.manifest.name_bytes
        self.names = Names(index[:text], np.frombuffer(index, "<u8", count, offset=text))
        self.records: NDArray[Any] = np.frombuffer(index, RECORD, count, offset=text + 8 * count)
        self._segments = [self._segment(number) for number in range(len(self.manifest.segments))]
        self._verified = bytearray(count)
        self._prepared: dict[str, Store] = {}
        if not is_part:
            self._check_source()

    def load(self, name: str) -> bytes | NDArray[Any]:
        """Return the content of a file or what was decoded in advance; its checksum is verified at the first read.

        Raises:
            FileNotFoundError: nothing of that name was packed.
            DataError: the block is damaged.
        """
        row = self.row(name)
        if row is None:
            raise FileNotFoundError(2, "no such file in the packed data set", str(self.folder / name))
        block, record = self._sound_block(row), self.records[row]
        try:
            return decode_block(Kind(record["kind"]), block, tuple(int(size) for size in record["shape"]))
        except (ValueError, zlib.error) as error:
            raise self._damaged(row) from error

    def prepared(self, name: str, key: str) -> VoxelGroups | None:
        """Return the voxels that were made of a cloud in advance, or None where nothing was prepared.

        Raises:
            DataError: they are damaged, or were made of another cloud of that name.
        """
        store = self._prepared_store(key)
        row = None if store is None else store.row(name)
        if store is None or row is None:
            return None
        if not self.agrees(store, name):
            raise DataError(
                f"{self.folder / name}: {store.folder.name} was prepared from another cloud; {PREPARE_AGAIN}."
            )
        try:
            return groups_of(store._sound_block(row))
        except ValueError as error:
            raise store._damaged(row) from error

    def agrees(self, prepared: Store, name: str) -> bool:
        """Whether a prepared store in this one has voxels of a cloud, and of this cloud."""
        row = prepared.row(name)
        return row is not None and int(prepared.records[row]["source_crc"]) == self.crc(name)

    def crc(self, name: str) -> int | None:
        """Checksum of a file's block, or None."""
        row = self.row(name)
        return None if row is None else int(self.records[row]["crc"])

    def preparations(self) -> list[dict[str, str]]:
        """How the prepared stores in it were made; those that are not finished have no entry."""
        manifests = sorted(self.folder.glob(f"{PREFIX}*/{MANIFEST}"))
        return [read_manifest(manifest.parent).options for manifest in manifests]

    def _prepared_store(self, key: str) -> Store | None:
        if key not in self._prepared:
            folder = self.folder / (PREFIX + key)
            if not (folder / MANIFEST).exists():
                return None
            self._prepared[key] = Store(folder, is_part=True)
        return self._prepared[key]

    def _sound_block(self, row: int) -> memoryview:
        """The bytes of a file's block, whose checksum is verified at the first read."""
        if not self._verified[row]:
            self.verify(row)
            self._verified[row] = 1
        return self.block(row)

    def block(self, row: int) -> memoryview:
        """The bytes of a file's block."""
        record = self.records[row]
        offset = int(record["offset"])
        return self._segments[int(record["segment"])][offset : offset + int(record["length"])]

    def verify(self, row: int) -> None:
        """Compare the checksum of a block.

        Raises:
            DataError: it differs.
        """
        if zlib.crc32(self.block(row)) != int(self.records[row]["crc"]):
            raise self._damaged(row)

    def has_file(self, name: str) -> bool:
        """Whether such a file was packed."""
        return self.row(name) is not None

    def has_folder(self, name: str) -> bool:
        """Whether files of such a folder were packed."""
        prefix = _prefix(name)
        row = bisect_left(self.names, prefix)
        return row < len(self.names) and self.names[row].startswith(prefix)

    def entries(self, name: str) -> Iterator[PackedEntry]:
        """What a folder holds, sorted by name.

        Raises:
            NotADirectoryError: there is no such folder.
        """
        if not self.has_folder(name):
            raise NotADirectoryError(20, "no such folder in the packed data set", str(self.folder / name))
        found = sorted(self._children(_prefix(name)))
        folder = self.folder / name
        yield from (PackedEntry(child, os.path.join(folder, child), status) for child, status in found)

    def _children(self, prefix: bytes) -> Iterator[tuple[str, PackedStatus | None]]:
        row = bisect_left(self.names, prefix)
        while row < len(self.names) and (full := self.names[row]).startswith(prefix):
            child, slash, _ = full[len(prefix) :].partition(b"/")
            if slash:
                yield child.decode(), None
                row = bisect_left(self.names, prefix + child + b"0", lo=row)  # "0" follows "/": behind the folder
            else:
                record = self.records[row]
                yield child.decode(), PackedStatus(int(record["source_size"]), int(record["source_mtime_ns"]))
                row += 1

    def row(self, name: str) -> int | None:
        """The row of a file in the index, or None."""
        wanted = name.encode()
        row = bisect_left(self.names, wanted)
        return row if row < len(self.names) and self.names[row] == wanted else None

    def _damaged(self, row: int) -> DataError:
        return DataError(
            f"{self.folder / self.names[row].decode()}: its block in the packed data set is damaged (checksum "
            f"differs); {self._repair}."
        )

    def _segment(self, number: int) -> memoryview:
        content = self._mapped(segment_name(number))
        expected = self.manifest.segments[number]
        if len(content) != expected:
            path = self.folder / segment_name(number)
            raise DataError(f"{path}: expected {expected} bytes, found {len(content)}; {self._repair}.")
        return content

    def _mapped(self, name: str) -> memoryview:
        path = self.folder / name
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}); is the copy complete?") from error

    def _check_source(self) -> None:
        """Refuse a store whose source is at hand and has changed."""
        source = Path(self.manifest.source)
        if not source.is_dir():
            return
        step = -(-len(self.names) // _SOURCE_CHECKS) or 1
        change = first_change(source, ((self.names[row], self.records[row]) for row in range(0, len(self.names), step)))
        if change is not None:
            raise DataError(
                f"{self.folder}: packed from {source}, which has changed since ({change}); {AGAIN}, or open {source}."
            )


def _prefix(folder: str) -> bytes:
    return f"{folder}/".encode() if folder else b""
