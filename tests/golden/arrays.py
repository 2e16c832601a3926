"""Small conversions: nested containers <-> ``a/b/0`` keys, index expressions, statistics, packed arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

PACKED = re.compile(r"^(?P<base>.+)@(?P<kind>sum|stat|s\d+)$")


def as_array(value: Any) -> np.ndarray:
    """NumPy view of a tensor, array, number or plain list of numbers."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)


def nest(flat: Mapping[str, Any]) -> Any:
    """Rebuild dicts from ``a/b`` keys; a level whose keys are exactly 0..n-1 becomes a list."""
    root: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split("/")
        level = root
        for parent in parents:
            level = level.setdefault(parent, {})
        level[leaf] = value
    return _lists(root)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    done = {key: _lists(value) for key, value in node.items()}
    if done and set(done) == {str(i) for i in range(len(done))}:
        return [done[str(i)] for i in range(len(done))]
    return done


def flatten(value: Any, keep: Iterable[str] = (), prefix: str = "") -> dict[str, Any]:
    """Nested dicts and lists -> ``a/b/0`` keys. A list under a name in ``keep``, or of numbers, is one array."""
    names = set(keep)
    if isinstance(value, Mapping):
        items: Iterable[tuple[str, Any]] = ((str(k), v) for k, v in value.items())
    elif isinstance(value, list | tuple) and prefix not in names and not _is_numeric_list(value):
        items = ((str(i), v) for i, v in enumerate(value))
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flatten(item, names, f"{prefix}/{key}" if prefix else key)
    return flat


def _is_numeric_list(value: list | tuple) -> bool:
    return bool(value) and all(isinstance(item, int | float | bool | np.number) for item in value)


def parse_index(expression: str) -> tuple[Any, ...]:
    """Turn ``[:, ::3, 2, ...]`` into an index tuple, without evaluating it.

    Raises:
        ValueError: something else than integers, slices and one ellipsis stands in the brackets.
    """
    text = expression.strip()
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError(f"not an index expression: {expression!r}")
    return tuple(_parse_axis(part.strip()) for part in text[1:-1].split(","))


def _parse_axis(part: str) -> Any:
    if part == "...":
        return Ellipsis
    if ":" in part:
        bounds = [int(bound) if bound.strip() else None for bound in part.split(":")]
        if len(bounds) > 3:
            raise ValueError(f"not a slice: {part!r}")
        return slice(*bounds)
    return int(part)


def statistics(array: np.ndarray) -> np.ndarray:
    """[mean, population std, sum of absolute values] in float64."""
    full = np.asarray(array, dtype=np.float64)
    if full.size == 0:
        return np.zeros(3)
    return np.array([full.mean(), full.std(), np.abs(full).sum()])


def pack(array: np.ndarray, kind: str) -> np.ndarray:
    """Reduce a full array the way a packed golden array was: ``sum`` (axis 1), ``stat``, ``s<k>`` (every k-th cell).

    ``s<k>`` strides the last two axes of maps and images; a list of points (up to 3 axes whose last one holds at most 5
    numbers) is flattened to rows, and every k-th row is kept.
    """
    if kind == "sum":
        return array.sum(axis=1)
    if kind == "stat":
        return statistics(array)
    step = int(kind[1:])
    if array.ndim <= 3 and array.shape[-1] <= 5:
        return array.reshape(-1, array.shape[-1])[::step]
    return array[..., ::step, ::step]
