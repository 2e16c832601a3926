"""The one rule that makes a configuration small enough to try out, whatever its method.

The shortest range of a file reaches one unit from the agent, and every other as many units as it is longer, rounded,
but no more than ``MOST_UNITS``. A unit is ``UNIT`` metres, or more where cells are coarse: two units are a multiple of
``UNIT_CELLS`` of the coarsest cells, so that strides, windows and pyramids keep dividing the maps (``MORE_CELLS`` for
detectors that halve the map more often). What follows:

* ranges (six numbers ``x0, y0, z0, x1, y1, z1``) become symmetric in x and y, and keep their heights;
* ``xbound``, ``ybound`` of a camera's ``grid_conf`` become symmetric, and keep their step;
* sizes of maps that the file states by itself (``H`` and ``W``, ``in_feature_shape``, ``out_feature_shape``,
  ``DA_instance_head``) shrink like the range beside them, or like the model's; everything that a parser
  derives is derived again;
* pictures are read as they are; ``final_dim`` shrinks until its shorter side is ``PICTURE_SIDE`` pixels, the other side
  in whole ``PICTURE_UNIT``.

Voxels, channels, depths, heads, windows, numbers of agents and thresholds stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opencood.config.loader import Hypes, reparse
from opencood.config.parsers.context import is_number
from opencood.config.parsers.groups import LIBRARY
from opencood.config.tree import lookup

UNIT = 12.8
MOST_UNITS = 2
UNIT_CELLS = 64
MORE_CELLS = {"model.args.robust": 2 * UNIT_CELLS}  # pose regression halves the head's map five times
NEARLY = 1e-6
PICTURE_SIDE = 96
PICTURE_UNIT = 32
_CELL_SIZES = "voxel_size"
_BOUNDS = ("xbound", "ybound")
_MAP_CELLS = "bev_args"  # of pretraining: cells of the map itself, which fit whenever the voxels do
_RESOLUTION = "res"  # of a picture of points seen from above
_PICTURES = "data_aug_conf"
_COLUMNS = "DA_instance_head"  # of a map, times anchors
_SHAPES = {"in_feature_shape": "in_cav_lidar_range", "out_feature_shape": "out_cav_lidar_range"}
_MODEL_RANGES = ("model.args.lidar_range", "preprocess.cav_lidar_range", "postprocess.gt_range")


@dataclass(frozen=True)
class Rule:
    """The rule for one file: the shortest half extent and what it becomes, in metres, and the (x, y) of the model."""

    shortest: float
    unit: float
    reference: tuple[float, float]

    def half(self, metres: float) -> float:
        """The small half extent of a large one."""
        return min(MOST_UNITS, max(1, round(metres / self.shortest))) * self.unit

    def limits(self, limits: Sequence[float]) -> list[float]:
        """The small range of a large one."""
        x, y = (self.half(extent) for extent in half_extents(limits))
        return [-x, -y, limits[2], x, y, limits[5]]

    def shares(self, limits: Sequence[float] | None) -> tuple[float, float]:
        """By how much maps of a range get smaller along (y, x)."""
        x, y = self.reference if limits is None else half_extents(limits)
        return self.half(y) / y, self.half(x) / x


def shrink(hypes: Hypes) -> Hypes:
    """A small configuration of the same method (see the module), with all derived keys.

    Raises:
        ConfigError: the file lacks a key that its parser needs.
    """
    rule = rule_for(hypes)
    return hypes if rule is None else reparse(hypes.replaced(_shrunk(_on_its_own(hypes), rule)))


def _on_its_own(hypes: Mapping[str, Any]) -> dict[str, Any]:
    """Without the library of modalities, which would bring back their full ranges."""
    content = dict(hypes)
    if lookup(hypes, LIBRARY) is not None:
        content["heter"] = {key: value for key, value in hypes["heter"].items() if f"heter.{key}" != LIBRARY}
        content["yaml_parser"] = "load_general_params"
    return content


def rule_for(hypes: Mapping[str, Any]) -> Rule | None:
    """The rule for a configuration; None when it states no range or no cells."""
    extents = [extent for limits in _ranges(hypes) for extent in half_extents(limits)]
    steps = list(_steps(hypes))
    if not extents or not steps:
        return None
    wanted = max([UNIT_CELLS, *(cells for key, cells in MORE_CELLS.items() if lookup(hypes, key) is not None)])
    cells = wanted / 2 * max(steps)
    unit = cells * max(1, math.ceil(UNIT / cells - NEARLY))
    stated = next((found for path in _MODEL_RANGES if is_range(found := lookup(hypes, path))), None)
    return Rule(min(extents), unit, half_extents(stated) if stated else (max(extents), max(extents)))


def half_extents(limits: Sequence[float]) -> tuple[float, float]:
    """How far a range reaches along x and y, metres."""
    return max(abs(limits[0]), abs(limits[3])), max(abs(limits[1]), abs(limits[4]))


def is_range(value: Any) -> bool:
    """Whether a value is a range: two opposite corners in metres."""
    return (
        isinstance(value, list)
        and len(value) == 6
        and all(map(is_number, value))
        and all(low < high for low, high in zip(value[:3], value[3:], strict=True))
    )


def _shrunk(tree: Any, rule: Rule) -> Any:
    if isinstance(tree, list):
        return rule.limits(tree) if is_range(tree) else [_shrunk(value, rule) for value in tree]
    if not isinstance(tree, Mapping):
        return tree
    small = {key: _pictures(value) if key == _PICTURES else _shrunk(value, rule) for key, value in tree.items()}
    for key in _BOUNDS:
        if is_bound(tree.get(key)):
            half = rule.half(max(map(abs, tree[key][:2])))
            small[key] = [-half, half, tree[key][2]]
    if _whole(tree.get("H")) and _whole(tree.get("W")):
        small["H"], small["W"] = _scaled((tree["H"], tree["W"]), rule.shares(None))
    if _whole(tree.get(_COLUMNS)):
        small[_COLUMNS] = _scaled([tree[_COLUMNS]], rule.shares(None)[1:])[0]
    for key, beside in _SHAPES.items():
        if key in tree:
            small[key] = _scaled(tree[key], rule.shares(tree.get(beside)))
    return small


def _pictures(conf: Any) -> Any:
    """``data_aug_conf`` for smaller pictures: resizing keeps filling them."""
    if not isinstance(conf, Mapping) or not isinstance(conf.get("final_dim"), list):
        return conf
    shortest = min(conf["final_dim"])
    if shortest <= PICTURE_SIDE:
        return conf
    final = [math.ceil(side * PICTURE_SIDE / shortest / PICTURE_UNIT) * PICTURE_UNIT for side in conf["final_dim"]]
    share = max(new / old for new, old in zip(final, conf["final_dim"], strict=True))
    return {**conf, "final_dim": final, "resize_lim": [limit * share for limit in conf.get("resize_lim", [])]}


def _scaled(sizes: Sequence[int], shares: Sequence[float]) -> list[int]:
    return [max(1, round(size * share)) for size, share in zip(sizes, shares, strict=True)]


def is_bound(value: Any) -> bool:
    """Whether a value is one axis of a grid: start, end, step."""
    return isinstance(value, list) and len(value) == 3 and all(map(is_number, value)) and value[0] < value[1]


def _ranges(tree: Any) -> Iterator[Sequence[float]]:
    if is_range(tree):
        yield tree
    for value in _children(tree):
        yield from _ranges(value)


def _steps(tree: Any) -> Iterator[float]:
    """Sides of all horizontal cells, metres."""
    if isinstance(tree, Mapping):
        sizes = tree.get(_CELL_SIZES)
        if isinstance(sizes, list) and len(sizes) == 3:
            yield from filter(is_number, sizes[:2])
        yield from (tree[key][2] for key in _BOUNDS if is_bound(tree.get(key)))
        if is_number(tree.get(_RESOLUTION)):
            yield tree[_RESOLUTION]
    for value in _children({k: v for k, v in tree.items() if k != _MAP_CELLS} if isinstance(tree, Mapping) else tree):
        yield from _steps(value)


def _children(tree: Any) -> Iterator[Any]:
    if isinstance(tree, Mapping):
        yield from tree.values()
    elif isinstance(tree, list):
        yield from tree


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
