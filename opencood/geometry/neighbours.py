"""Points and their neighbours: farthest point sampling, ball queries, values of a map between its cells.

Plain PyTorch for any device; nothing here loops over points on the host but farthest point sampling on a GPU, each step
of which needs the one before. On the CPU that loop is compiled.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opencood.geometry.jit import compiled

NOBODY = -1
_PAIRS_AT_ONCE = 1 << 23


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Return the indices (min(count, N),) of points (N, 3) that lie as far from each other as can be, greedily.

    The first point is the first of the cloud; each further one is farthest from those already taken.
    """
    count = min(count, len(points))
    if not count:
        return torch.zeros(0, dtype=torch.long, device=points.device)
    if points.device.type == "cpu":
        places = points.detach().numpy().astype(np.float32)
        return torch.from_numpy(_farthest(np.ascontiguousarray(places[:, :3]), count))
    chosen = torch.zeros(count, dtype=torch.long, device=points.device)
    distance = torch.full((len(points),), torch.inf, device=points.device)
    for step in range(1, count):
        to_last = ((points[:, :3] - points[chosen[step - 1], :3]) ** 2).sum(dim=1)
        distance = torch.minimum(distance, to_last)
        chosen[step] = distance.argmax()
    return chosen


def ball_query(queries: Tensor, points: Tensor, radius: float, count: int) -> Tensor:
    """Return (Q, count) indices of the first points (N, 3) nearer than ``radius`` to each query (Q, 3).

    Where there are fewer, the first one is repeated; a query without any neighbour has ``NOBODY`` everywhere.
    """
    if not len(points) or not len(queries):
        return torch.full((len(queries), count), NOBODY, dtype=torch.long, device=queries.device)
    rows = max(1, _PAIRS_AT_ONCE // len(points))
    return torch.cat([_in_ball(some, points, radius, count) for some in queries.split(rows)])


def _in_ball(queries: Tensor, points: Tensor, radius: float, count: int) -> Tensor:
    near = torch.cdist(queries[:, :3], points[:, :3], compute_mode="donot_use_mm_for_euclid_dist") < radius
    return first_hits(near, torch.arange(len(points), device=points.device).expand_as(near), count)


def first_hits(hit: Tensor, indices: Tensor, count: int) -> Tensor:
    """Return (Q, count) the smallest of the indices (Q, K) that are hit, padded like ``ball_query``."""
    nothing = torch.iinfo(torch.long).max
    ranked = torch.where(hit, indices, nothing)
    count_here = min(count, ranked.shape[1])
    found = ranked.topk(count_here, dim=1, largest=False).values
    if count_here < count:
        found = torch.nn.functional.pad(found, (0, count - count_here), value=nothing)
    first = found[:, :1]
    found = torch.where(found == nothing, first, found)
    return torch.where(first == nothing, NOBODY, found)


def gathered(values: Tensor, neighbours: Tensor) -> Tensor:
    """Return values (N, C) of neighbours (Q, K): (Q, K, C), zeros where there is ``NOBODY``."""
    if not len(values):
        return values.new_zeros(*neighbours.shape, values.shape[1])
    found = values[neighbours.clamp(min=0)]
    return found * (neighbours != NOBODY).unsqueeze(-1)


def interpolated(level: Tensor, places: Tensor) -> Tensor:
    """Return the values (K, C) of a map (C, H, W) at places (K, 2): column and row, whole numbers at cells, bilinear.

    Places beyond the border take the border's value.
    """
    height, width = level.shape[-2:]
    limits = places.new_tensor([width - 1, height - 1])
    inside = torch.minimum(places.clamp(min=0), limits)
    low = inside.floor()
    share = inside - low
    column, row = low.long().unbind(dim=1)
    right, below = (column + 1).clamp(max=width - 1), (row + 1).clamp(max=height - 1)
    x, y = share.unbind(dim=1)
    above = level[:, row, column] * (1 - x) + level[:, row, right] * x
    under = level[:, below, column] * (1 - x) + level[:, below, right] * x
    return (above * (1 - y) + under * y).T


@compiled
def _farthest(points: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    chosen = np.zeros(count, np.int64)
    distance = np.full(len(points), np.inf, np.float32)
    for step in range(1, count):
        x, y, z = points[chosen[step - 1]]
        best, where = np.float32(-1), 0
        for i in range(len(points)):
            d = (points[i, 0] - x) ** 2 + (points[i, 1] - y) ** 2 + (points[i, 2] - z) ** 2
            if d < distance[i]:
                distance[i] = d
            if distance[i] > best:
                best, where = distance[i], i
        chosen[step] = where
    return chosen
