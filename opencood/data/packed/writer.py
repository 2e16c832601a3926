"""Writing a packed store, in steps that an interruption does not lose."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO

import numpy as np

from opencood.data.packed.encode import Encoded
from opencood.data.packed.layout import (
    FORMAT,
    INDEX,
    JOURNAL,
    MANIFEST,
    RECORD,
    SEGMENT_BYTES,
    Manifest,
    segment_name,
)
from opencood.data.packed.store import Store
from opencood.errors import ConfigError, StorageError

_FIELDS = RECORD.names or ()


@dataclass(frozen=True)
class Line:
    """One line of the journal: a file that is in the store."""

    name: str
    record: tuple[Any, ...]
    problem: str

    @property
    def source_crc(self) -> int:
        """Checksum of what it was made from."""
        return int(self.record[_FIELDS.index("source_crc")])


class StoreWriter:
    """An unfinished store: files are added one by one, ``finish`` makes it readable.

    Args:
        folder: of the store; what an interrupted run left there is continued.
        source: folder that is packed.
        options: how, in words.
        extend: what a finished store holds is kept, and it is unfinished again.

    Raises:
        ConfigError: an interrupted run packed another folder or with other options.
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path, source: Path, options: Mapping[str, str], extend: bool = False) -> None:
        self.folder = folder
        self._head: dict[str, Any] = {"format": FORMAT, "source": str(source), "options": dict(options)}
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.lines = self._finished() if extend and (folder / MANIFEST).exists() else self._resumed()
            self._sizes = self._trimmed_segments()
            self._journal = self._open_journal()
            (folder / MANIFEST).unlink(missing_ok=True)
        self._segment: BinaryIO | None = None

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        if self._segment is not None:
            self._segment.close()

    def add(self, encoded: Encoded) -> None:
        """Store a file, in place of an earlier version.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        with writing(self.folder):
            segment = self._room()
            offset = self._sizes[segment]
            assert self._segment is not None
            self._segment.write(encoded.block)
            self._segment.flush()
            self._sizes[segment] += len(encoded.block)
            shape = (*encoded.shape, 0, 0, 0)[:3]
            record = (
                int(encoded.kind), segment, offset, len(encoded.block), zlib.crc32(encoded.block), shape, encoded.size,
                encoded.mtime_ns, encoded.crc,
            )  # fmt: skip
            self.lines[encoded.name] = Line(encoded.name, record, encoded.problem)
            self._journal.write(json.dumps([encoded.name, record, encoded.problem]) + "\n")
            self._journal.flush()

    def drop(self, name: str) -> None:
        """Forget a file that an earlier run stored; its bytes stay unused."""
        del self.lines[name]

    def finish(self) -> Manifest:
        """Write index and manifest: from now on the folder is a store.

        Raises:
            StorageError: they cannot be written.
        """
        lines = sorted(self.lines.values(), key=lambda line: line.name.encode())
        names = [line.name.encode() for line in lines]
        records = np.array([line.record for line in lines], RECORD)
        text = b"".join(names)
        index = text + np.cumsum([len(name) for name in names], dtype="<u8").tobytes() + records.tobytes()
        manifest = Manifest(
            self._head["source"], self._head["options"], len(lines), len(text), zlib.crc32(index), self._sizes
        )
        with writing(self.folder):
            if self._segment is not None:
                os.fsync(self._segment.fileno())
            _write_whole(self.folder / INDEX, index)
            _write_whole(self.folder / MANIFEST, manifest.text().encode())
            (self.folder / JOURNAL).unlink()
        return manifest

    # What an earlier run left

    def _finished(self) -> dict[str, Line]:
        """All lines of a finished store."""
        store = Store(self.folder, is_part=True)
        names = (name.decode() for name in map(store.names.__getitem__, range(len(store.names))))
        return {
            name: Line(name, tuple(_plain(record[field]) for field in _FIELDS), "")
            for name, record in zip(names, store.records, strict=True)
        }

    def _resumed(self) -> dict[str, Line]:
        """The lines of the journal whose blocks are whole; a last line that was cut off does not count."""
        journal = self.folder / JOURNAL
        if not journal.exists():
            return {}
        head, *rest = journal.read_text().split("\n")
        if _parsed(head) not in (None, self._head):
            raise ConfigError(
                f"{self.folder}: an unfinished store of another folder or with other options; repeat that command, or "
                "start anew with --overwrite."
            )
        found = [(entry[0], Line(entry[0], _record(entry[1]), entry[2])) for text in rest if (entry := _parsed(text))]
        return {name: line for name, line in found if self._is_whole(line)}

    def _is_whole(self, line: Line) -> bool:
        record = dict(zip(_FIELDS, line.record, strict=True))
        path = self.folder / segment_name(record["segment"])
        if not path.exists():
            return False
        with path.open("rb") as file:
            file.seek(record["offset"])
            return zlib.crc32(file.read(record["length"])) == record["crc"]

    def _trimmed_segments(self) -> list[int]:
        """Sizes of the data files, cut behind the last block that counts."""
        ends: dict[int, int] = {}
        for line in self.lines.values():
            record = dict(zip(_FIELDS, line.record, strict=True))
            ends[record["segment"]] = max(ends.get(record["segment"], 0), record["offset"] + record["length"])
        sizes = [ends.get(number, 0) for number in range(max(ends, default=-1) + 1)]
        for path in self.folder.glob(segment_name(0).replace("00000", "*")):
            if path.name not in {segment_name(number) for number in range(len(sizes))}:
                path.unlink()
        for number, size in enumerate(sizes):
            os.truncate(self.folder / segment_name(number), size)
        return sizes

    def _open_journal(self) -> TextIO:
        """A journal that holds what counts so far."""
        lines = [json.dumps(self._head), *(json.dumps([ln.name, ln.record, ln.problem]) for ln in self.lines.values())]
        _write_whole(self.folder / JOURNAL, ("\n".join(lines) + "\n").encode())
        return (self.folder / JOURNAL).open("a")

    def _room(self) -> int:
        """The number of the data file that takes the next block."""
        full = self._sizes and self._sizes[-1] >= SEGMENT_BYTES
        if not self._sizes or full:
            self._sizes.append(0)
        if self._segment is None or full:
            if self._segment is not None:
                os.fsync(self._segment.fileno())
                self._segment.close()
            self._segment = (self.folder / segment_name(len(self._sizes) - 1)).open("ab")
        return len(self._sizes) - 1


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn operating system errors into one that names the store."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{folder}: cannot be written ({reason}). Free space or choose another folder; the same command continues."
        ) from error


def _write_whole(path: Path, content: bytes) -> None:
    scratch = path.with_name(path.name + ".tmp")
    with scratch.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _plain(value: Any) -> Any:
    """A field of a record as JSON knows it."""
    return tuple(value.tolist()) if value.ndim else value.item()


def _record(values: list[Any]) -> tuple[Any, ...]:
    """As ``RECORD`` wants it: JSON has lists only."""
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)
