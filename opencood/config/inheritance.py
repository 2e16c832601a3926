"""Variants hold only differences: ``_base_`` inherits from other files, maps merge deeply, everything else is replaced.

Words with a meaning of their own, all gone after expansion:

* ``_base_: file.yaml`` or a list of files, relative to the file that says so; later ones win, own keys win over all;
* ``key: _delete_`` removes an inherited key;
* ``_replace_: true`` inside a map takes this map instead of merging it with the inherited one;
* ``_everywhere_: {cav_lidar_range: [...]}`` gives the named keys a new value in every inherited map that has them, as
  ``--range`` does; for what published files write once with an anchor and repeat by alias.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from opencood.config.flavor import SHIPPED
from opencood.config.reader import Document, read_document
from opencood.config.source import Place
from opencood.errors import ConfigError, nearest

BASE = "_base_"
DELETE = "_delete_"
REPLACE = "_replace_"
EVERYWHERE = "_everywhere_"


def read_expanded(path: str | Path, repair: bool = False) -> tuple[Document, list[Path]]:
    """Read a file with everything it inherits; ``repair`` is for the file itself (see ``read_document``).

    Returns:
        the merged document, and all files it was made from, the given one last.

    Raises:
        ConfigError: an unreadable file, a cycle of inheritance, or an inheritance word that is used wrongly.
    """
    return _expand(Path(path), (), repair)


def _expand(path: Path, descendants: tuple[Path, ...], repair: bool = False) -> tuple[Document, list[Path]]:
    resolved = path.resolve()
    if resolved in descendants:
        chain = " -> ".join(p.name for p in (*descendants, resolved))
        raise ConfigError(f"{path}: {BASE} leads back to the file itself: {chain}.")
    own = read_document(path, repair)
    merged = Document({}, Place(own.place.file, own.place.line))
    files: list[Path] = []
    for base in _bases(own):
        inherited, used = _expand(_base_file(path.parent, base), (*descendants, resolved))
        merged = merge(merged, inherited)
        files += used
    return _with_own_keys(merged, own), [*files, path]


def _base_file(folder: Path, base: str) -> Path:
    """The file beside the one that inherits; a copy of a shipped file finds its bases among the shipped ones."""
    beside = _shortened(folder / base)
    names = [part for part in Path(base).parts if part != ".."]
    shipped = SHIPPED.joinpath(*names)
    copied = not beside.is_file() and len(names) < len(Path(base).parts) and shipped.is_file()
    return shipped if copied else beside


def _shortened(path: Path) -> Path:
    """``sim/../_parts/x.yaml`` reads better as ``_parts/x.yaml``, unless a symbolic link makes them two files."""
    short = Path(os.path.normpath(path))
    return short if short.resolve() == path.resolve() else path


def _bases(own: Document) -> list[str]:
    named = own.data.get(BASE, [])
    bases = [named] if isinstance(named, str) else named
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{own.place.children[BASE]}: {BASE}: expected a file name or a list of file names.")
    return bases


def _with_own_keys(inherited: Document, own: Document) -> Document:
    place = inherited.place
    data = inherited.data
    if EVERYWHERE in own.data:
        values = own.data[EVERYWHERE]
        written = own.place.children[EVERYWHERE]
        if not isinstance(values, Mapping):
            raise ConfigError(f"{written}: {EVERYWHERE}: expected a map of keys and their new values.")
        _check_known(values, data, written)
        data, place = _set_everywhere(data, place, values, written, {})
    own_data = {key: value for key, value in own.data.items() if key not in (BASE, EVERYWHERE)}
    own_place = own.place.without(BASE).without(EVERYWHERE)
    return merge(Document(data, place), Document(own_data, own_place))


def merge(base: Document, own: Document) -> Document:
    """Lay one document over another: maps merge deeply, lists and values are replaced, ``_delete_`` removes a key."""
    data, place = _merge_maps(base.data, base.place, own.data, own.place, "")
    return Document(data, place)


def _merge_maps(
    base: Mapping[str, Any], base_place: Place, own: Mapping[str, Any], own_place: Place, path: str
) -> tuple[dict[str, Any], Place]:
    data = dict(base)
    place = Place(own_place.file, own_place.line, dict(base_place.children))
    for key, value in own.items():
        name = str(key)
        here = own_place.children.get(name, own_place)
        full = f"{path}.{name}" if path else name
        if _is_word(value, DELETE):
            _check_deletable(key, base, here, full)
            del data[key]
            place.children.pop(name, None)
            continue
        inherited = base.get(key)
        if not isinstance(value, Mapping) or not (isinstance(inherited, Mapping) or _has_words(value)):
            data[key], place.children[name] = value, here
            continue
        merges = isinstance(inherited, Mapping) and not value.get(REPLACE)
        below = base_place.children.get(name, here) if merges else Place(here.file, here.line)
        own_part = {k: v for k, v in value.items() if k != REPLACE}
        data[key], place.children[name] = _merge_maps(
            cast(Mapping[str, Any], inherited) if merges else {}, below, own_part, here.without(REPLACE), full
        )
    return data, place


def _has_words(value: Any) -> bool:
    """Whether inheritance words occur below; a map without them is taken as it is, so that aliases stay one object."""
    if isinstance(value, Mapping):
        return REPLACE in value or any(map(_has_words, value.values()))
    return _is_word(value, DELETE)


def _is_word(value: Any, word: str) -> bool:
    return isinstance(value, str) and value == word


def _check_deletable(key: Any, base: Mapping[str, Any], here: Place, full: str) -> None:
    if key not in base:
        raise ConfigError(f"{here}: {full}: there is no inherited key '{key}' to delete.{nearest(key, base)}")


def _set_everywhere(
    data: Mapping[str, Any], place: Place, values: Mapping[str, Any], written: Place, done: dict[int, dict[str, Any]]
) -> tuple[dict[str, Any], Place]:
    """Exchange values by key in all maps; ``done`` keeps what was one object (an alias) one object."""
    changed: dict[str, Any] = done.setdefault(id(data), {})
    children = dict(place.children)
    for key, value in data.items():
        name = str(key)
        if key in values:
            changed[key] = values[key]
            children[name] = written.children[name]
        elif isinstance(value, Mapping):
            below = children.get(name, place)
            changed[key], children[name] = _set_everywhere(value, below, values, written, done)
        else:
            changed[key] = value
    return changed, Place(place.file, place.line, children)


def _check_known(values: Mapping[str, Any], data: Mapping[str, Any], written: Place) -> None:
    known = _all_keys(data)
    for key in values:
        if key not in known:
            raise ConfigError(
                f"{written.children[key]}: {EVERYWHERE}: no inherited map has '{key}'.{nearest(key, known)}"
            )


def _all_keys(data: Any) -> set[str]:
    if not isinstance(data, Mapping):
        return set()
    return set(data).union(*(_all_keys(value) for value in data.values()))
