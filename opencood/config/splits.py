"""Splits of data: one folder or file, or a list of several data sets that are used together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opencood.config.loader import load_mapping
from opencood.config.tree import overlaid, section, with_value
from opencood.errors import ConfigError, nearest

KEYS = ("path", "dataset", "mode", "range", "set")


def is_several(split: Any) -> bool:
    """Whether a ``root_dir``, ``validate_dir`` or ``test_dir`` lists several data sets."""
    return isinstance(split, list | tuple)


def split_paths(split: Any) -> list[str]:
    """The folders or files of a split."""
    if not is_several(split):
        return [str(split)]
    return [str(entry.get("path")) if isinstance(entry, Mapping) else str(entry) for entry in split]


def entries_of(hypes: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return one configuration per data set of the list under ``key``, in which ``key`` is a single path.

    An entry is ``{path, dataset, mode, range, set}``: ``dataset`` and ``mode`` stand for ``fusion.dataset`` and
    ``dataset_mode``, ``range`` for ``crop_range``, and ``set`` is a part of a configuration that holds for this data
    set alone. What an entry does not say is that of the whole configuration.

    Raises:
        ConfigError: the list is empty, or an entry is no map, has no path or an unknown key.
    """
    if not hypes[key]:
        raise ConfigError(f"{key}: the list of data sets is empty.")
    return [_entry(hypes, key, f"{key}[{number}]", entry) for number, entry in enumerate(hypes[key])]


def _entry(hypes: Mapping[str, Any], key: str, where: str, entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping) or not entry.get("path"):
        raise ConfigError(f"{where}: expected a map with a path, such as {{path: data/train, dataset: opv2v}}.")
    unknown = [name for name in entry if name not in KEYS]
    if unknown:
        raise ConfigError(f"{where}: unknown key '{unknown[0]}'.{nearest(str(unknown[0]), KEYS)}")
    changed: Mapping[str, Any] = {**hypes, key: str(entry["path"])}
    for name, place in (("dataset", "fusion.dataset"), ("mode", "dataset_mode"), ("range", "crop_range")):
        if entry.get(name) is not None:
            changed = with_value(changed, place, entry[name])
    own = section(entry, "set")
    return load_mapping(overlaid(changed, own), name=f"{where}.set") if own else changed
