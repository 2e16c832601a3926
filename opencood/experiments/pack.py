"""Pack a data set into a store that is read faster, and check such a store."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from opencood.data.packed.encode import Encoded, encode_file
from opencood.data.packed.layout import INDEX, JOURNAL, MANIFEST, Kind, PackOptions, read_manifest
from opencood.data.packed.prepared import PREFIX
from opencood.data.packed.source import change_of, files_of
from opencood.data.packed.store import PREPARE_AGAIN, Store
from opencood.data.packed.writer import StoreWriter, writing
from opencood.errors import ConfigError, DataError, StorageError

__all__ = ["PackOptions", "PackReport", "pack", "summary", "verify"]

_TITLES = {
    Kind.BYTES: "files as they are",
    Kind.DEFLATED: "texts, deflated",
    Kind.CLOUD: "clouds, float32",
    Kind.CLOUD_FLOAT16: "clouds, float16",
    Kind.CLOUD_MILLIMETRE: "clouds, millimetres",
    Kind.PIXELS: "pictures as pixels",
}
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class PackReport:
    """What was packed.

    Attributes:
        out: the store.
        files: number of files, by kind of block.
        source_bytes, stored_bytes: the same for sizes.
        kept: files that an interrupted run had packed already.
        problems: files that could not be decoded and are stored as they are, with the reason.
        seconds: of this run.
    """

    out: Path
    files: dict[Kind, int]
    source_bytes: dict[Kind, int]
    stored_bytes: dict[Kind, int]
    kept: int
    problems: dict[str, str]
    seconds: float


def pack(
    source: Path, out: Path, options: PackOptions | None = None, *, jobs: int = 1, overwrite: bool = False
) -> PackReport:
    """Pack every file below a folder; an interrupted run is continued.

    Args:
        source: root of a data set, or of one of its splits.
        out: the store to make; absent, empty, or what an interrupted run left.
        options: how; None = nothing is lost.
        jobs: processes that read and encode.
        overwrite: replace an earlier store.

    Raises:
        ConfigError: the folders contradict each other, or an interrupted run had other options.
        DataError: a file of the source cannot be read.
        StorageError: ``out`` holds something else, or cannot be written.
    """
    started, options = time.perf_counter(), options or PackOptions()
    source, out = source.resolve(), out.resolve()
    _check_folders(source, out)
    _make_room(out, overwrite)
    names = list(files_of(source))
    if not names:
        raise DataError(f"{source}: holds no file.")
    with StoreWriter(out, source, asdict(options)) as writer:
        for name in set(writer.lines) - set(names):
            writer.drop(name)
        todo = [name for name in names if name not in writer.lines or _is_other(source, name, writer)]
        for encoded in tqdm(_encoded(source, todo, options, jobs), f"Packing {source.name}", len(todo), unit="file"):
            writer.add(encoded)
        writer.finish()
        problems = {line.name: line.problem for line in writer.lines.values() if line.problem}
    return _report(out, len(names) - len(todo), problems, time.perf_counter() - started)


def is_packed(source: Path, out: Path) -> bool:
    """Whether a folder is a finished store of the source."""
    out = out.resolve()
    return (out / MANIFEST).exists() and read_manifest(out).source == str(source.resolve())


def verify(out: Path) -> list[str]:
    """Compare every checksum of a store, and every file of its source where that is at hand.

    Returns what is wrong, one line each.

    Raises:
        DataError: manifest or index are damaged, or the source has changed.
    """
    out = out.resolve()
    if not (out / MANIFEST).exists():
        state = (
            "is an unfinished store; run the same pack_dataset command again" if (out / JOURNAL).exists() else "is none"
        )
        raise DataError(f"{out}: a packed data set was expected, this {state}.")
    store = Store(out)
    source: Path | None = Path(store.manifest.source)
    if source is not None and not source.is_dir():
        source = None
    problems = []
    for row in tqdm(range(len(store.names)), f"Verifying {out.name}", unit="file"):
        name = store.names[row].decode()
        try:
            store.verify(row)
        except DataError as error:
            problems.append(str(error))
        change = change_of(source, name, store.records[row]) if source is not None else None
        if change:
            problems.append(f"source changed: {change}")
    problems += [problem for folder in sorted(out.glob(f"{PREFIX}*")) for problem in _verify_prepared(store, folder)]
    if source is not None:
        problems += [f"source changed: {name} is new" for name in files_of(source) if not store.has_file(name)]
    return problems


def _verify_prepared(store: Store, folder: Path) -> list[str]:
    """What is wrong with voxels that were made in advance."""
    if not (folder / MANIFEST).exists():
        return [f"{folder}: is unfinished; {PREPARE_AGAIN}"]
    prepared, problems = Store(folder, is_part=True), []
    for row in range(len(prepared.names)):
        name = prepared.names[row].decode()
        try:
            prepared.verify(row)
        except DataError as error:
            problems.append(str(error))
        if not store.agrees(prepared, name):
            problems.append(f"{folder}: {name} was prepared from another cloud; {PREPARE_AGAIN}")
    return problems


def summary(report: PackReport) -> str:
    """Sizes by kind, and the files that could not be decoded, for a terminal."""
    rows = [("", "files", "before", "after")]
    for kind, title in _TITLES.items():
        if report.files.get(kind):
            rows.append(_row(title, report.files[kind], report.source_bytes[kind], report.stored_bytes[kind]))
    totals = (sum(values.values()) for values in (report.files, report.source_bytes, report.stored_bytes))
    rows.append(_row("together", *totals))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        row[0].ljust(widths[0]) + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    if report.kept:
        lines.append(f"continued: {report.kept} files had been packed before")
    if report.problems:
        lines.append(f"{len(report.problems)} files could not be decoded and are stored as they are:")
        lines += [f"  {reason}" for reason in list(report.problems.values())[:_SHOWN_PROBLEMS]]
        if len(report.problems) > _SHOWN_PROBLEMS:
            lines.append(f"  and {len(report.problems) - _SHOWN_PROBLEMS} more")
    return "\n".join(lines)


def _row(title: str, files: int, before: int, after: int) -> tuple[str, str, str, str]:
    return title, str(files), f"{before / 1e6:.1f} MB", f"{after / 1e6:.1f} MB"


def _check_folders(source: Path, out: Path) -> None:
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; give the root of the data set.")
    if (source / MANIFEST).exists() or (source / JOURNAL).exists():
        raise ConfigError(f"{source}: a packed data set itself; give the folder that it was made from.")
    if out == source or source in out.parents or out in source.parents:
        raise ConfigError(f"{out}: must lie outside of {source}, and not around it.")


def _make_room(out: Path, overwrite: bool) -> None:
    ours = {path for pattern in (MANIFEST, INDEX, JOURNAL, "data-*.bin", "*.tmp") for path in out.glob(pattern)}
    prepared = set(out.glob(f"{PREFIX}*")) if (out / MANIFEST).exists() else set()
    others = sorted(set(out.iterdir()) - ours - prepared) if out.is_dir() else []
    if others:
        raise StorageError(f"{out}: holds other files ({others[0].name}); choose an empty folder.")
    if overwrite and out.is_dir():
        with writing(out):
            (out / MANIFEST).unlink(missing_ok=True)  # first: what remains is no store
            shutil.rmtree(out)
    if (out / MANIFEST).exists():
        made_from = read_manifest(out).source
        raise StorageError(f"{out}: a finished store of {made_from}; --verify checks it, --overwrite replaces it.")


def _is_other(source: Path, name: str, writer: StoreWriter) -> bool:
    """Whether a file changed since the interrupted run packed it."""
    size, mtime_ns = writer.lines[name].record[6:8]
    status = (source / name).stat()
    return bool((status.st_size, status.st_mtime_ns) != (size, mtime_ns))


def _encoded(source: Path, names: Sequence[str], options: PackOptions, jobs: int) -> Iterator[Encoded]:
    encode = partial(encode_file, source, options=options)
    if jobs == 1:
        yield from map(encode, names)
        return
    with ProcessPoolExecutor(jobs) as pool:
        window = 8 * jobs  # so that blocks do not pile up in front of a slow disk
        for start in range(0, len(names), window):
            yield from pool.map(encode, names[start : start + window])


def _report(out: Path, kept: int, problems: dict[str, str], seconds: float) -> PackReport:
    records = Store(out).records
    files: Counter[Kind] = Counter()
    before: Counter[Kind] = Counter()
    after: Counter[Kind] = Counter()
    for kind in Kind:
        mine = records[records["kind"] == kind]
        files[kind], before[kind] = len(mine), int(mine["source_size"].sum())
        after[kind] = int(mine["length"].sum())
    return PackReport(out, files, before, after, kept, problems, seconds)
