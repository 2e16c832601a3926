"""Which splits lie below a path, and in which format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from opencood.config.dialect import HypesLoader
from opencood.data import files
from opencood.data.index import entries_of, folders_of
from opencood.errors import ConfigError, DataError
from opencood.registry import REGISTRY

SPLITS = ("train", "validate", "val", "test", "test_culver_city", "test_culvercity")
_MANIFEST = "simulation.json"
_COOPERATIVE = "cooperative-vehicle-infrastructure"  # the folder of the DAIR-V2X-C download
_LOOKED_AT = 50  # metadata files read to tell formats apart
_TABLE_FORMATS = {".pkl": "v2xsim", ".json": "dairv2x"}


@dataclass(frozen=True)
class Split:
    """One split as a hypes file would name it.

    Attributes:
        name: for the report.
        format: registered reader.
        root: value of ``root_dir`` or ``validate_dir``.
        hypes: further keys that the reader needs.
    """

    name: str
    format: str
    root: Path
    hypes: Mapping[str, Any] = field(default_factory=dict)


def find_splits(root: Path, format_name: str | None = None, hypes: Mapping[str, Any] | None = None) -> list[Split]:
    """Return the splits at or below a path; the format is recognised when it is not given.

    Args:
        root: a data set, one of its splits, or a file that lists the frames of a split.
        format_name: registered reader, or None.
        hypes: keys that a reader may ask for, such as ``data_dir``.

    Raises:
        ConfigError: there is no such format.
        DataError: nothing at the path looks like a data set.
    """
    if format_name is not None:
        REGISTRY.get("reader", format_name, where="--format")
    if not files.exists(root):
        raise DataError(f"{root}: no such file or folder (working directory {Path.cwd()}).")
    given = dict(hypes or {})
    places = _places(root, format_name)
    if not places:
        raise DataError(
            f"{root}: no data set recognised. Expected <scenario>/<agent>/<stamp>.yaml (also below train, validate, "
            "test), v2xsim_infos_*.pkl, or cooperative/data_info.json beside train.json. "
            f"Name the format with --format ({', '.join(REGISTRY.names('reader'))})."
        )
    return [Split(name, format_name or _recognised(place), place, given) for name, place in places]


def _places(root: Path, format_name: str | None) -> list[tuple[str, Path]]:
    """Name and path of every split; formats that keep lists of frames in files have one file a split."""
    if files.is_file(root):
        if format_name is None and root.suffix not in _TABLE_FORMATS:
            raise ConfigError(f"{root}: name the format of this file with --format.")
        return [(root.stem, root)]
    if format_name in (None, "v2xsim"):
        tables = [table for folder in (root, *_folders(root)) for table in _files(folder, "v2xsim_infos_*.pkl")]
        if tables or format_name:
            return [(table.stem.rpartition("_")[2], table) for table in tables]
    if format_name in (None, "dairv2x"):
        nested = root / _COOPERATIVE
        folder = nested if files.is_dir(nested) else root
        if files.is_dir(folder / "cooperative") or format_name:
            lists = [folder / f"{name}.json" for name in ("train", "val", "test")]
            return [(place.stem, place) for place in lists if files.is_file(place)]
    below = [(name, root / name) for name in SPLITS if files.is_dir(root / name)]
    if below:
        return below
    return [(root.name, root)] if format_name or next(_metadata(root), None) else []


def _recognised(place: Path) -> str:
    """The format of a split by what lies in it; V2XSet and OPV2V differ by little, so their names count too."""
    if files.is_file(place):
        return _TABLE_FORMATS[place.suffix]
    declared = _declared(place.parent / _MANIFEST) or _declared(place / _MANIFEST)
    if declared:
        return declared
    found = list(_metadata(place))
    if any(files.exists(file.with_suffix(".bin")) for file in found):
        return "v2xreal"
    if any(_is_v2v4real(file) for file in found[:2]):
        return "v2v4real"
    path = str(place.resolve()).upper()
    if "V2XSET" in path or "OPV2V" in path:
        return "v2xset" if "V2XSET" in path else "opv2v"
    agents = {file.parent.name for file in found}
    maps = any(files.exists(file.with_name(f"{file.stem}_bev_visibility.png")) for file in found)
    return "v2xset" if any(name.startswith("-") for name in agents) and not maps else "opv2v"


def _declared(manifest: Path) -> str | None:
    try:
        content = json.loads(files.read_bytes(manifest))
    except (OSError, ValueError):  # no simulated data set
        return None
    name = content.get("format") if isinstance(content, dict) else None
    return name if isinstance(name, str) and REGISTRY.has("reader", name) else None


def _metadata(place: Path) -> Iterator[Path]:
    """Some metadata files of the OPV2V family, from every agent of the first scenarios."""
    found = 0
    for agent in (agent for scenario in _folders(place) for agent in _folders(scenario)):
        file = next(iter(_files(agent, "*.yaml")), None)
        if file is not None:
            yield file
            found += 1
            if found == _LOOKED_AT:
                return


def _folders(place: Path) -> list[Path]:
    return [Path(entry.path) for entry in folders_of(place)]


def _files(place: Path, pattern: str) -> list[Path]:
    return [Path(entry.path) for entry in entries_of(place) if fnmatch(entry.name, pattern)]


def _is_v2v4real(file: Path) -> bool:
    """Poses are matrices, or objects have an id that links agents."""
    try:
        content = yaml.load(files.read_bytes(file), Loader=HypesLoader)
        objects = (content.get("vehicles") or {}).values()
        return np.shape(content.get("lidar_pose")) == (4, 4) or any("ass_id" in entry for entry in objects)
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError):  # the check itself will report it
        return False
