"""Anchor boxes on the grid of a detection head (spec data.md, section 9; evaluation.md, sections 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opencood.errors import ConfigError
from opencood.geometry.boxes import boxes_to_corners_3d, size_columns, standup_boxes
from opencood.geometry.iou import plus_one_areas

DEFAULT_STRIDE = 2
CENTRE_HEIGHT = -1.0  # of every single-class anchor, whatever the range
_WHERE = "postprocess.anchor_args"


def anchor_grid(anchor_args: Mapping[str, Any], order: str) -> NDArray[np.float64]:
    """Return (H', W', K, 7) anchors, rows along y, K in the order of the rotations; metres, radians.

    Args:
        anchor_args: ``cav_lidar_range``, sizes ``l, w, h``, rotations ``r`` in degrees, ``num``, ``feature_stride``
            (2), and what the YAML parser derives: ``vw, vh`` (cell size) and ``W, H`` (cells).
        order: ``hwl`` or ``lhw``.

    Centres run from one cell inside the border to one cell inside the other, which are exact cell centres for stride
    2 only (published checkpoints depend on it).

    Raises:
        ConfigError: a key is missing, ``num`` is not the number of rotations, or the order is another one.
    """
    if order not in ("hwl", "lhw"):
        raise ConfigError(f"postprocess.order: '{order}' has no anchors, expected hwl or lhw.")
    stride = int(anchor_args.get("feature_stride", DEFAULT_STRIDE))
    rotations = np.deg2rad(np.asarray(_required(anchor_args, "r"), np.float64))
    if len(rotations) != int(_required(anchor_args, "num")):
        raise ConfigError(f"{_WHERE}: num is {anchor_args['num']} but r lists {len(rotations)} rotations.")
    limits = _required(anchor_args, "cav_lidar_range")
    cell_x, cell_y = float(_required(anchor_args, "vw")), float(_required(anchor_args, "vh"))
    columns, rows = int(_required(anchor_args, "W")) // stride, int(_required(anchor_args, "H")) // stride

    grid = np.empty((rows, columns, len(rotations), 7))
    grid[..., 0] = np.linspace(limits[0] + cell_x, limits[3] - cell_x, columns)[:, None]
    grid[..., 1] = np.linspace(limits[1] + cell_y, limits[4] - cell_y, rows)[:, None, None]
    grid[..., 2] = CENTRE_HEIGHT
    for name, column in zip("lwh", size_columns(order), strict=True):
        grid[..., column] = float(_required(anchor_args, name))
    grid[..., 6] = rotations
    return grid


def multiclass_anchor_grid(anchor_args: Mapping[str, Any], order: str) -> NDArray[np.float64]:
    """Return (C, H', W', R, 7) anchors, one grid per class of ``anchor_generator_config`` in its order.

    The rotations are radians as written, ``anchor_bottom_heights`` are heights of the centre. With ``align_center`` the
    points are cell centres, without it they run from border to border.

    Raises:
        ConfigError: a key is missing, or classes differ in grid or number of anchors, so that no head could hold them.
    """
    grids = [
        _class_grid(anchor_args, settings, order) for settings in _required(anchor_args, "anchor_generator_config")
    ]
    shapes = {grid.shape for grid in grids}
    if len(shapes) != 1:
        raise ConfigError(
            f"{_WHERE}.anchor_generator_config: classes must share one grid, got shapes {sorted(shapes)}."
        )
    return np.stack(grids)


def _class_grid(anchor_args: Mapping[str, Any], settings: Mapping[str, Any], order: str) -> NDArray[np.float64]:
    where = f"{_WHERE}.anchor_generator_config"
    limits = _required(anchor_args, "cav_lidar_range")
    stride = int(_required(settings, "feature_map_stride", where))
    centred = bool(settings.get("align_center", False))
    xs = _points(limits[0], limits[3], int(_required(anchor_args, "W")) // stride, centred)
    ys = _points(limits[1], limits[4], int(_required(anchor_args, "H")) // stride, centred)
    kinds = [
        (height, size, rotation)
        for height in _required(settings, "anchor_bottom_heights", where)
        for size in _required(settings, "anchor_sizes", where)
        for rotation in _required(settings, "anchor_rotations", where)
    ]
    grid = np.empty((len(ys), len(xs), len(kinds), 7))
    grid[..., 0] = xs[:, None]
    grid[..., 1] = ys[:, None, None]
    for index, (height, size, rotation) in enumerate(kinds):
        grid[..., index, 2] = height
        grid[..., index, list(size_columns(order))] = size
        grid[..., index, 6] = rotation
    return grid


def _points(low: float, high: float, count: int, centred: bool) -> NDArray[np.float64]:
    steps = np.arange(count, dtype=np.float64)
    if centred:
        return low + (steps + 0.5) * ((high - low) / count)
    return low + steps * ((high - low) / max(count - 1, 1))


def _required(section: Mapping[str, Any], key: str, where: str = _WHERE) -> Any:
    if key not in section:
        derived = " It is derived by the YAML parser (yaml_parser)." if key in ("vw", "vh", "W", "H") else ""
        raise ConfigError(f"{where}: missing key '{key}'.{derived}")
    return section[key]


@dataclass(frozen=True)
class AnchorIndex:
    """Anchors with what target assignment needs of them, computed once.

    Attributes:
        anchors: (H, W, K, 7) float64.
        order: meaning of the three sizes.
    """

    anchors: NDArray[np.float64]
    order: str

    @cached_property
    def standup(self) -> NDArray[np.float32]:
        """(H, W, K, 4) bounds of every anchor seen from above."""
        corners = boxes_to_corners_3d(self.anchors.reshape(-1, 7), self.order)
        return standup_boxes(corners).reshape(*self.anchors.shape[:3], 4)

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(H, W, K) areas with 1 m added to every side."""
        return plus_one_areas(self.standup.reshape(-1, 4)).reshape(self.anchors.shape[:3])

    @cached_property
    def row_spans(self) -> NDArray[np.float32]:
        """(H, 2) lowest and highest y of any anchor in a row."""
        return _spans(self.standup, axis=1, flat=(1, 2))

    @cached_property
    def column_spans(self) -> NDArray[np.float32]:
        """(W, 2) lowest and highest x of any anchor in a column."""
        return _spans(self.standup, axis=0, flat=(0, 2))


def _spans(standup: NDArray[np.float32], axis: int, flat: Sequence[int]) -> NDArray[np.float32]:
    return np.stack([standup[..., axis].min(axis=tuple(flat)), standup[..., axis + 2].max(axis=tuple(flat))], axis=-1)
