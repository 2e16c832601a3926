"""What can be named in a YAML file: every registered component, by kind."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from opencood.errors import ConfigError, nearest
from opencood.registry import REGISTRY


@dataclass(frozen=True)
class Method:
    """One component: its kind, its names (aliases included) and one sentence about it."""

    kind: str
    names: tuple[str, ...]
    summary: str


def list_methods(kind: str | None = None) -> list[Method]:
    """Return all registered components, sorted by kind and name; ``kind`` limits the list.

    Raises:
        ConfigError: no such kind.
    """
    kinds = REGISTRY.kinds()
    if kind is not None and kind not in kinds:
        raise ConfigError(f"unknown kind '{kind}'.{nearest(kind, kinds)} Kinds: {', '.join(kinds)}.")
    return [method for one in ([kind] if kind else kinds) for method in _of_kind(one)]


def format_methods(methods: list[Method]) -> str:
    """Lay methods out as text: one heading for each kind, one line for each component."""
    if not methods:
        return "nothing is registered"
    width = min(44, max(len(", ".join(method.names)) for method in methods))
    lines: list[str] = []
    for method in methods:
        if f"{method.kind}:" not in lines:
            lines += ([""] if lines else []) + [f"{method.kind}:"]
        lines.append(f"  {', '.join(method.names):<{width}}  {method.summary}".rstrip())
    return "\n".join(lines)


def _of_kind(kind: str) -> list[Method]:
    if not _loads(kind):
        return []
    names_of: dict[int, list[str]] = defaultdict(list)
    summary_of: dict[int, str] = {}
    for name in REGISTRY.names(kind):
        entry = REGISTRY.get(kind, name)
        names_of[id(entry.target)].append(name)
        summary_of[id(entry.target)] = entry.summary
    return [Method(kind, tuple(names), summary_of[target]) for target, names in names_of.items()]


def _loads(kind: str) -> bool:
    """Whether the packages of a kind exist; an import error inside an existing one is a bug and is not hidden."""
    try:
        REGISTRY.load(kind)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("opencood."):
            return False
        raise
    return True
