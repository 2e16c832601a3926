"""Small pure operations on nested maps: look up, replace, merge. Nothing here changes what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def lookup(tree: Any, path: str, default: Any = None) -> Any:
    """Return the value at a dotted key path (list positions are numbers), or ``default``."""
    node = tree
    for key in path.split("."):
        if isinstance(node, Mapping) and key in node:
            node = node[key]
        elif isinstance(node, list | tuple) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return default
    return node


def section(tree: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return the map at a key path, or an empty one where there is none (absent, null, an empty list)."""
    node = lookup(tree, path)
    return node if isinstance(node, Mapping) else {}


def is_none(value: Any) -> bool:
    """Whether a YAML value means "not used": null, or the text ``None`` (spec config.md, section 1)."""
    return value is None or value == "None"


def given(tree: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key, or None where it is absent or not used."""
    value = tree.get(key)
    return None if is_none(value) else value


def with_value(tree: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with ``value`` at the path; missing maps on the way are made."""
    head, _, rest = path.partition(".")
    if not rest:
        return {**tree, head: value}
    child = tree.get(head)
    return {**tree, head: with_value(child if isinstance(child, Mapping) else {}, rest, value)}


def overlaid(tree: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with ``own`` laid over it: maps merge deeply, everything else is replaced."""
    merged = dict(tree)
    for key, value in own.items():
        below = tree.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = overlaid(below, value)
        else:
            merged[key] = value
    return merged


def replace_where(tree: Any, fits: Callable[[Any], bool], replacement: Any) -> Any:
    """Return a copy in which every node that fits is exchanged; untouched branches keep their identity."""
    if fits(tree):
        return replacement
    if isinstance(tree, Mapping):
        changed = {key: replace_where(value, fits, replacement) for key, value in tree.items()}
        return tree if all(changed[key] is tree[key] for key in tree) else changed
    if isinstance(tree, list):
        items = [replace_where(value, fits, replacement) for value in tree]
        return tree if all(new is old for new, old in zip(items, tree, strict=True)) else items
    return tree


def plain_copy(tree: Any) -> Any:
    """Return a deep copy made of dicts and lists in which no two places share an object."""
    if isinstance(tree, Mapping):
        return {key: plain_copy(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain_copy(value) for value in tree]
    return tree
