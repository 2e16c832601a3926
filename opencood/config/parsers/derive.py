"""Derived numbers: anchor numbers, grid sizes and BEV geometry from a range and a voxel size. Pure functions.

Source: spec config.md section 2. Ranges are ``[x0, y0, z0, x1, y1, z1]``, voxel sizes ``[vw, vh, vd]``, both in metres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opencood.config.tree import lookup, replace_where
from opencood.errors import ConfigError

NEAR_INTEGER = 1e-6
ROUNDINGS: dict[str, Callable[[float], int]] = {"ceil": math.ceil, "truncate": math.trunc, "nearest": round}


def cells(low: float, high: float, step: float, rounding: str, exact: bool = True) -> int:
    """Number of cells of size ``step`` from ``low`` to ``high``.

    ``exact`` takes the integer that the quotient misses by less than 1e-6 (38.4/0.4 is 96); without it the floating
    quotient is rounded as it is, which published systems do.
    """
    quotient = (high - low) / step
    closest = round(quotient)
    if exact and abs(quotient - closest) < NEAR_INTEGER:
        return closest
    return ROUNDINGS[rounding](quotient)


def grid_of(bounds: Sequence[float], voxel: Sequence[float], rounding: str, exact: bool = True) -> list[int]:
    """Cells along x, y, z of a range."""
    return [cells(bounds[i], bounds[i + 3], voxel[i], rounding, exact) for i in range(3)]


def anchor_numbers(
    bounds: Sequence[float], voxel: Sequence[float], rounding: str, exact: bool = True
) -> dict[str, Any]:
    """The keys ``vw, vh, vd, W, H, D``; W runs along x, H along y."""
    width, height, depth = grid_of(bounds, voxel, rounding, exact)
    return {"vw": voxel[0], "vh": voxel[1], "vd": voxel[2], "W": width, "H": height, "D": depth}


def bev_geometry(bounds: Sequence[float], resolution: float, rate: int, exact: bool = True) -> dict[str, Any]:
    """``geometry_param`` of BEV (PIXOR) models: the range, cell size and the shapes of input and label maps."""
    nx, ny, nz = grid_of(bounds, [resolution] * 3, "truncate", exact)
    low = dict(zip(("L1", "W1", "H1"), bounds[:3], strict=True))
    high = dict(zip(("L2", "W2", "H2"), bounds[3:], strict=True))
    shapes = {"input_shape": [nx, ny, nz + 1], "label_shape": [nx // rate, ny // rate, 7]}
    return {**low, **high, "downsample_rate": rate, "res": resolution, **shapes}


def fill(tree: Mapping[str, Any], path: str, derived: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the tree with derived keys in the map at ``path`` and in all its copies elsewhere.

    An alias is one object in several places, and a published parser fills them all by changing that object. Here
    nothing is changed: all places get the same new map. A saved file has no aliases any more, so a map that equals the
    target and already holds derived keys counts as its copy too.
    """
    target = lookup(tree, path)
    if not isinstance(target, Mapping):
        raise ConfigError(f"{path}: a map is expected, not {target!r}.")
    filled = {**target, **derived}

    def is_copy(node: Any) -> bool:
        if node is target:
            return True
        return isinstance(node, Mapping) and derived.keys() <= node.keys() and node == target

    return replace_where(tree, is_copy, filled)
