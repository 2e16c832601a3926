"""Check a configuration against the table of sections: wrong or missing keys fail, unknown ones warn.

Source: spec config.md section 4.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from opencood.config.quirks import QUIRKS
from opencood.config.schema.key import REQUIRED, Key
from opencood.config.schema.sections import SECTIONS, TRAINING_SECTIONS
from opencood.config.source import Source
from opencood.config.tree import section
from opencood.errors import ConfigError, nearest

_TASK_PREFIX = "m"


def check_hypes(hypes: Mapping[str, Any], source: Source, whole: bool = True) -> None:
    """Check every section of a configuration.

    Args:
        whole: also demand the required keys; False for a part of a configuration.

    Raises:
        ConfigError: a required key is missing or a value has the wrong kind; names file, line, key path, expectation.
    Warns:
        for each key that nobody knows, with the nearest one that exists.
    """
    for pattern, keys in SECTIONS.items():
        complete = whole and (pattern not in TRAINING_SECTIONS or "optimizer" in hypes)
        for path, content in sections_at(hypes, pattern):
            _check_section(path, content, keys, source, complete)
    _check_losses(hypes, source)
    _check_quirks(hypes, source)


def sections_at(hypes: Any, pattern: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All maps that a section path describes, with their own key path; what is not a map is left out."""
    nodes: list[tuple[str, Any]] = [("", hypes)]
    for step in pattern.replace("[]", ".[]").split(".") if pattern else ():
        nodes = [child for path, node in nodes for child in _children(path, node, step)]
    for path, node in nodes:
        if isinstance(node, Mapping):
            yield path, node


def _children(path: str, node: Any, step: str) -> list[tuple[str, Any]]:
    def below(key: Any) -> str:
        return f"{path}.{key}" if path else str(key)

    if step == "[]":
        return [(below(i), item) for i, item in enumerate(node)] if isinstance(node, list) else []
    if not isinstance(node, Mapping):
        return []
    return [(below(key), node[key]) for key in (node if step == "*" else (step,)) if key in node]


def _check_section(path: str, content: Mapping[str, Any], keys: tuple[Key, ...], source: Source, whole: bool) -> None:
    known = {key.name: key for key in keys}
    for name, value in content.items():
        full = f"{path}.{name}" if path else str(name)
        if name in known:
            _check_value(full, value, known[name], source)
        elif not _is_task(path, name):
            _warn_unknown(full, str(name), known, source)
    for key in keys:
        if whole and key.default is REQUIRED and content.get(key.name) is None:
            full = f"{path}.{key.name}" if path else key.name
            similar = nearest(key.name, [name for name in content if name not in known])
            place = source.where(full)
            raise ConfigError(f"{place}: {full}: missing; expected {key.kind.expected} ({key.meaning}).{similar}")


def _check_value(full: str, value: Any, key: Key, source: Source) -> None:
    """Null and the text None mean that the key is not used."""
    if value is None or value == "None" or key.kind.accepts(value):
        return
    words = key.kind.expected.removeprefix("one of ").split(", ")
    similar = nearest(value, words) if isinstance(value, str) and key.kind.expected.startswith("one of ") else ""
    found = f"{value!r} ({type(value).__name__})"
    raise ConfigError(
        f"{source.where(full)}: {full}: expected {key.kind.expected} ({key.meaning}), found {found}.{similar}"
    )


def _warn_unknown(full: str, name: str, known: Mapping[str, Key], source: Source) -> None:
    message = f"{source.where(full)}: unknown key '{full}' is ignored.{nearest(name, known)}"
    warnings.warn(message, stacklevel=2)


def _is_task(path: str, name: Any) -> bool:
    """STAMP's ``postprocess.m1``: one section for each task."""
    return path == "postprocess" and str(name).startswith(_TASK_PREFIX) and str(name)[1:].isdigit()


def _check_losses(hypes: Mapping[str, Any], source: Source) -> None:
    """A loss is one component, or (STAMP) one for each modality."""
    loss = hypes.get("loss")
    if not isinstance(loss, Mapping):
        return
    by_modality = not {"core_method", "args"} & loss.keys()
    parts = {f"loss.{name}": part for name, part in loss.items()} if by_modality else {"loss": loss}
    for path, part in parts.items():
        if not isinstance(part, Mapping) or not isinstance(part.get("core_method"), str):
            place = source.where(f"{path}.core_method")
            raise ConfigError(f"{place}: {path}.core_method: missing; expected text (the name of a loss).")


def _check_quirks(hypes: Mapping[str, Any], source: Source) -> None:
    for name in section(hypes, "quirks"):
        if name not in QUIRKS:
            place = source.where(f"quirks.{name}")
            raise ConfigError(f"{place}: quirks.{name}: there is no such switch.{nearest(name, QUIRKS)}")
