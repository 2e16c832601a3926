"""Two-sided Chamfer distance between many small sets of points (spec coopre.md 5).

Which point is nearest is found without a graph, block of cells by block of cells; the distances to it are then computed
again with one. Memory is that of one block, ``2 * cells_per_block * P * T`` floats (25 MB for 2400 cells of 20 and 64
points), whatever the number of cells, and the gradient is that of the plain minimum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.errors import ConfigError

CELLS_PER_BLOCK = 2400
Reduction = Literal["mean", "sum", "none"]
DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": torch.abs,
    "l2": torch.square,
    "smooth_l1": lambda difference: F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none"),
}


@dataclass(frozen=True)
class Chamfer:
    """Both directions, and who is nearest to whom.

    Attributes:
        source: from every source point to the nearest target of its cell: scalar, or (K, P) without reduction.
        target: from every target to the nearest source point of its cell: scalar, or (K, T), zero where invalid.
        nearest_target: (K, P) index of the nearest valid target, 0 in cells without any.
        nearest_source: (K, T) index of the nearest source point.
    """

    source: Tensor
    target: Tensor
    nearest_target: Tensor
    nearest_source: Tensor


def distance_function(name: str) -> Callable[[Tensor], Tensor]:
    """What is summed over x, y, z: ``l1``, ``l2`` (squares) or ``smooth_l1`` of the difference.

    Raises:
        ConfigError: another name.
    """
    if name not in DISTANCES:
        raise ConfigError(f"distance: '{name}' is none of {', '.join(DISTANCES)}.")
    return DISTANCES[name]


def chamfer(
    source: Tensor,
    target: Tensor,
    valid: Tensor,
    distance: str = "l1",
    reduction: Reduction = "mean",
    dynamic_weight: bool = False,
    cells_per_block: int = CELLS_PER_BLOCK,
) -> Chamfer:
    """The distance of K cells, in each of which P source points meet T targets.

    Args:
        source: (K, P, 3).
        target: (K, T, 3).
        valid: (K, T) bool; other targets do not exist. A cell without any contributes nothing.
        distance: see :func:`distance_function`.
        reduction: ``mean`` over the source points of cells with targets, and over all targets; ``sum``; ``none``.
        dynamic_weight: a source point counts as much as the share of its cell's targets that are valid.
        cells_per_block: how many cells are compared at once.
    """
    per_axis = distance_function(distance)
    filled = valid.any(dim=1)
    of_source, of_target = nearest(source, target, valid, per_axis, cells_per_block)
    to_target = per_axis(source - _at(target, of_source)).sum(dim=2) * filled[:, None]
    to_source = per_axis(target - _at(source, of_target)).sum(dim=2) * valid
    if dynamic_weight:
        to_target = to_target * valid.to(source).mean(dim=1, keepdim=True)
    if reduction == "none":
        return Chamfer(to_target, to_source, of_source, of_target)
    totals = to_target.sum(), to_source.sum()
    if reduction == "mean":
        counts = filled.sum() * source.shape[1], valid.sum()
        totals = totals[0] / counts[0].clamp(min=1), totals[1] / counts[1].clamp(min=1)
    return Chamfer(*totals, of_source, of_target)


@torch.no_grad()
def nearest(
    source: Tensor,
    target: Tensor,
    valid: Tensor,
    per_axis: Callable[[Tensor], Tensor],
    cells_per_block: int = CELLS_PER_BLOCK,
) -> tuple[Tensor, Tensor]:
    """(K, P) the nearest valid target of every source point, and (K, T) the nearest source point of every target.

    Of several equally near ones the first.
    """
    blocks = range(0, max(len(source), 1), cells_per_block)
    found = [
        _nearest_of_block(source[start:end], target[start:end], valid[start:end], per_axis)
        for start, end in ((start, start + cells_per_block) for start in blocks)
    ]
    of_source, of_target = zip(*found, strict=True)
    return torch.cat(of_source), torch.cat(of_target)


def _nearest_of_block(
    source: Tensor, target: Tensor, valid: Tensor, per_axis: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    distance = source.new_zeros(len(source), source.shape[1], target.shape[1])
    for axis in range(3):
        distance += per_axis(source[:, :, None, axis] - target[:, None, :, axis])
    of_target = distance.argmin(dim=1)
    return distance.masked_fill_(~valid[:, None], torch.inf).argmin(dim=2), of_target


def _at(points: Tensor, rows: Tensor) -> Tensor:
    return points.gather(1, rows[..., None].expand(-1, -1, 3))
