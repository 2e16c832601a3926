"""Make the voxels of a configuration in advance, inside a packed data set."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from opencood.config.loader import Hypes
from opencood.config.splits import entries_of, is_several
from opencood.data.build import parts_of, seed_of
from opencood.data.draws import Draws
from opencood.data.frame import PointSource
from opencood.data.packed.encode import Encoded
from opencood.data.packed.layout import MANIFEST, Kind
from opencood.data.packed.prepared import Preparation, decoder_name, groups_block, make_groups
from opencood.data.packed.store import Store
from opencood.data.packed.writer import StoreWriter
from opencood.data.prepare import clouds_to_prepare, obstacle
from opencood.errors import ConfigError, DataError
from opencood.experiments.build import import_plugins

log = logging.getLogger(__name__)

_STORE_AROUND = Path("..")  # what a prepared store is made from
_SPLITS = (("root_dir", True), ("validate_dir", False), ("test_dir", False))


@dataclass
class PrepareReport:
    """What was prepared.

    Attributes:
        stores: the folders that hold the voxels, one for each grid.
        clouds: number of clouds in them.
        kept: how many of those had been made before.
        stored_bytes: size of the voxels.
        problems: clouds that could not be read, by name; using them gives the same error as before.
        refused: why clouds of a split will be read nevertheless, by its key.
        seconds: of this run.
    """

    stores: list[Path] = field(default_factory=list)
    clouds: int = 0
    kept: int = 0
    stored_bytes: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Work:
    """One grid: how, and the clouds by name."""

    grid: Any
    crops: tuple[tuple[float, ...], ...]
    clouds: dict[str, PointSource]


def prepare(packed: Path, hypes: Hypes) -> PrepareReport:
    """Turn the clouds of all splits of a configuration that lie in a packed data set into voxels.

    ``root_dir``, ``validate_dir`` and ``test_dir`` may name the packed folder or the one that it was made from. An
    interrupted run is continued; what is complete is kept.

    Raises:
        ConfigError: no split lies there, or none can use voxels that were made in advance.
        DataError: the folder is no packed data set, or is damaged.
        StorageError: it cannot be written.
    """
    started, packed = time.perf_counter(), packed.resolve()
    if not (packed / MANIFEST).exists():
        raise DataError(f"{packed}: a packed data set was expected; make it first: pack_dataset SOURCE {packed}.")
    import_plugins(hypes)
    store, report = Store(packed), PrepareReport()
    for preparation, work in _work(store, hypes, report).items():
        _prepare_grid(store, preparation, work, report)
    report.seconds = time.perf_counter() - started
    return report


def describe(report: PrepareReport) -> str:
    """What was prepared and what was not, for a terminal."""
    made = f"{report.clouds} clouds, {report.stored_bytes / 1e6:.1f} MB, in {report.seconds:.1f} s"
    lines = [f"voxels of {made}" + (f"; {report.kept} were there before" if report.kept else "")]
    lines += [f"  {key}: clouds will be read nevertheless: {why}" for key, why in report.refused.items()]
    if report.problems:
        lines.append(
            f"  {len(report.problems)} clouds could not be read; the first: {next(iter(report.problems.values()))}"
        )
    return "\n".join(lines)


def _work(store: Store, hypes: Hypes, report: PrepareReport) -> dict[Preparation, _Work]:
    """What is to be made, by preparation."""
    found: dict[Preparation, _Work] = {}
    for key, train, entry, root in _splits(store, hypes):
        parts = parts_of(entry, train, False, root, key, seed_of(hypes))
        why = obstacle(parts.maker, parts.perturbations)
        if why:
            report.refused[key] = why
            continue
        for lidar, source in clouds_to_prepare(parts.maker, parts.reader_type, parts.reader_settings):
            name, decoder = _name_in(store, source.path), decoder_name(source.decode)
            if name is not None and decoder is not None:
                made = parts.maker.prepared.preparation(lidar, decoder)
                new = _Work(lidar.preprocessor, parts.maker.prepared.crops, {})
                found.setdefault(made, new).clouds[name] = source
    if not found:
        refused = "; ".join(f"{key}: {why}" for key, why in report.refused.items())
        raise ConfigError(refused and f"--prepare: voxels made in advance are of no use here. {refused}." or _NO_CLOUD)
    return found


_NO_CLOUD = "--prepare: no cloud of this configuration lies in the packed data set."


def _splits(store: Store, hypes: Hypes) -> Iterator[tuple[str, bool, Mapping[str, Any], Path]]:
    """Key, whether it is trained on, configuration and packed folder of every split that lies in a store."""
    outside = []
    for key, train in _SPLITS:
        if not hypes.get(key):
            continue
        opened = "root_dir" if train else "validate_dir"  # what evaluation opens was written as test_dir
        for entry in entries_of(hypes, key) if is_several(hypes[key]) else [hypes]:
            root = _packed_path(store, Path(str(entry[key])))
            if root is None:
                outside.append(f"{key} {entry[key]}")
                continue
            moved: dict[str, Any] = {**entry, opened: str(root)}
            data_dir = _packed_path(store, Path(str(entry["data_dir"]))) if entry.get("data_dir") else None
            if data_dir is not None:
                moved["data_dir"] = str(data_dir)
            yield key, train, _like(entry, moved), root
    for split in outside:
        log.warning("--prepare: %s lies neither in %s nor in %s.", split, store.folder, store.manifest.source)


def _like(entry: Mapping[str, Any], content: dict[str, Any]) -> Mapping[str, Any]:
    """The content as the same kind of configuration, which knows its file."""
    return entry.replaced(content) if isinstance(entry, Hypes) else content


def _packed_path(store: Store, path: Path) -> Path | None:
    """Where a path of a data set, packed or not, lies in its store; None: elsewhere."""
    for base in (store.folder, Path(store.manifest.source)):
        if path.resolve().is_relative_to(base):
            inside = path.resolve().relative_to(base)
            name = inside.as_posix()
            known = name == "." or store.has_file(name) or store.has_folder(name)
            return store.folder / inside if known else None
    return None


def _name_in(store: Store, path: Path) -> str | None:
    """The name under which a cloud was packed."""
    absolute = path.absolute()
    name = absolute.relative_to(store.folder).as_posix() if absolute.is_relative_to(store.folder) else ""
    return name if name and store.row(name) is not None else None


def _prepare_grid(store: Store, preparation: Preparation, work: _Work, report: PrepareReport) -> None:
    """Complete the store of one preparation."""
    folder = store.folder / preparation.folder
    report.stores.append(folder)
    there = Store(folder, is_part=True) if (folder / MANIFEST).exists() else None
    if there is not None and all(store.agrees(there, name) for name in work.clouds):
        report.clouds += len(work.clouds)
        report.kept += len(work.clouds)
        report.stored_bytes += sum(there.manifest.segments)
        return
    with StoreWriter(folder, _STORE_AROUND, asdict(preparation), extend=True) as writer:
        for name in [name for name, line in writer.lines.items() if line.source_crc != store.crc(name)]:
            writer.drop(name)
        todo = {name: source for name, source in work.clouds.items() if name not in writer.lines}
        report.kept += len(work.clouds) - len(todo)
        for name, source in tqdm(todo.items(), f"Preparing {store.folder.name}", unit="cloud"):
            block = _block(name, source, work, report)
            if block is not None:
                writer.add(Encoded(name, Kind.BYTES, block, (), len(block), 0, store.crc(name) or 0))
        manifest = writer.finish()
        report.clouds += sum(name in writer.lines for name in work.clouds)
    report.stored_bytes += sum(manifest.segments)


def _block(name: str, source: PointSource, work: _Work, report: PrepareReport) -> bytes | None:
    """The voxels of a cloud, or None when it cannot be read."""
    try:
        cloud = source.read()
    except DataError as error:
        report.problems[name] = str(error)
        return None
    grid, random = work.grid, Draws.keyed(0, name).numpy
    return groups_block(make_groups(cloud, work.crops, grid.cav_lidar_range, grid.voxel_size, random))
