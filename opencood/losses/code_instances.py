"""Objects look alike to two agents, and unlike other objects (spec codealign.md 5, InstanceSimLoss)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class _Bins(NamedTuple):
    """Cells that fall into each bin of each box along one axis: indices and which of them count, (K, size, reach)."""

    cells: Tensor
    inside: Tensor


def instance_similarity(first: Tensor, second: Tensor, boxes: Tensor, size: int, temperature: float) -> Tensor:
    """One-directional InfoNCE of what two agents (C, H, W) make of the same boxes.

    The first agent's crops are pooled by their mean, the second's by their maximum, to ``size`` x ``size``.

    Args:
        boxes: (K, 4) x0, y0, x1, y1 in cells, ends excluded. Boxes with a cell that one agent does not see are left
            out.
    """
    boxes = _seen_by_both(first, second, boxes.long())
    if not len(boxes):
        return first.sum() * 0
    columns, rows = _bins(boxes[:, 0], boxes[:, 2], size), _bins(boxes[:, 1], boxes[:, 3], size)
    inside = rows.inside[:, :, None, :, None] & columns.inside[:, None, :, None, :]
    means = (_crops(first, rows, columns) * inside).sum(dim=(-2, -1)) / inside.sum(dim=(-2, -1))
    peaks = _crops(second, rows, columns).masked_fill(~inside, float("-inf")).amax(dim=(-2, -1))
    vectors = [F.normalize(x.transpose(0, 1).flatten(1), dim=1) for x in (means, peaks)]
    logits = vectors[0] @ vectors[1].T / temperature
    return F.cross_entropy(logits, torch.arange(len(boxes), device=logits.device))


def _seen_by_both(first: Tensor, second: Tensor, boxes: Tensor) -> Tensor:
    """The boxes that hold a cell, and no cell without features."""
    height, width = first.shape[-2:]
    x0, x1 = boxes[:, 0].clamp(0, width), boxes[:, 2].clamp(0, width)
    y0, y1 = boxes[:, 1].clamp(0, height), boxes[:, 3].clamp(0, height)
    unseen = (first == 0).all(dim=0) | (second == 0).all(dim=0)
    total = F.pad(unseen.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    holes = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
    keep = (x1 > x0) & (y1 > y0) & (holes == 0)
    return torch.stack([x0, y0, x1, y1], dim=1)[keep]


def _bins(start: Tensor, stop: Tensor, size: int) -> _Bins:
    """Adaptive pooling: bin i of a length n covers floor(i n / size) to ceil((i + 1) n / size)."""
    steps = torch.arange(size, device=start.device)
    length = (stop - start)[:, None]
    first = start[:, None] + steps * length // size
    last = start[:, None] + ((steps + 1) * length + size - 1) // size
    reach = torch.arange(int((last - first).max()), device=start.device)
    cells = first[..., None] + reach
    return _Bins(torch.minimum(cells, last[..., None] - 1), cells < last[..., None])


def _crops(level: Tensor, rows: _Bins, columns: _Bins) -> Tensor:
    """(C, K, size, size, reach, reach)."""
    return level[:, rows.cells[:, :, None, :, None], columns.cells[:, None, :, None, :]]
