"""Boxes of several agents become one per object: the matcher of FPV-RCNN (spec homogeneous.md 4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opencood.geometry.boxes import boxes_to_corners_3d, limit_period, standup_boxes
from opencood.geometry.iou_torch import paired_iou_3d
from opencood.geometry.jit import compiled

SAME_OBJECT_IOU = 0.1
_FREE = -1


class Merged(NamedTuple):
    """Merged boxes (K, 7), their scores (K,), and which of the K each box that came in belongs to (M,)."""

    boxes: Tensor
    scores: Tensor
    cluster: Tensor


def iou_3d_matrix(first: Tensor, second: Tensor, order: str) -> Tensor:
    """Return the (N, M) IoU of volumes of boxes (N, 7) and (M, 7); only pairs whose outlines meet are worked out."""
    corners = [boxes_to_corners_3d(boxes, order).double() for boxes in (first, second)]
    a, b = (standup_boxes(one) for one in corners)
    meet = ((a[:, None, :2] < b[None, :, 2:]) & (b[None, :, :2] < a[:, None, 2:])).all(dim=-1)
    rows, columns = meet.nonzero(as_tuple=True)
    result = torch.zeros(len(first), len(second), dtype=torch.float64, device=first.device)
    result[rows, columns] = paired_iou_3d(corners[0][rows], corners[1][columns])
    return result


def merge_boxes(boxes: Tensor, scores: Tensor, order: str, threshold: float = SAME_OBJECT_IOU) -> Merged:
    """Merge boxes (M, 7) with scores (M,) that overlap.

    One after the other, a box that is still free takes all whose IoU with it exceeds the threshold, also from earlier
    clusters. Within a cluster headings that point the other way than the best box's are turned if they are fewer, by
    summed score; else the others are. The box is the mean by score; its own score the sum of the k-th best to the power
    k, at most 1.
    """
    if not len(boxes):
        return Merged(boxes, scores, torch.zeros(0, dtype=torch.long, device=boxes.device))
    near = (iou_3d_matrix(boxes, boxes, order) > threshold).fill_diagonal_(True)
    labels = torch.from_numpy(_greedy(np.ascontiguousarray(near.cpu().numpy()))).to(boxes.device)
    _, cluster = torch.unique(labels, return_inverse=True)  # a cluster that lost all its boxes is none
    count = int(cluster.max()) + 1
    ranked = _ranked(cluster, scores)
    best = torch.zeros(count, dtype=torch.long, device=boxes.device)
    best[cluster[ranked.order[ranked.rank == 0]]] = ranked.order[ranked.rank == 0]
    yaw = _aligned_yaws(boxes[:, 6], scores, cluster, best, count)
    weight = scores / _sums(scores, cluster, count)[cluster]
    mean = _sums(boxes[:, :6] * weight[:, None], cluster, count)
    heading = torch.atan2(_sums(yaw.sin() * weight, cluster, count), _sums(yaw.cos() * weight, cluster, count))
    powers = scores[ranked.order] ** (ranked.rank + 1)
    total = _sums(powers, cluster[ranked.order], count).clamp(max=1.0)
    return Merged(torch.cat([mean, heading[:, None]], dim=1), total, cluster)


class _Ranked(NamedTuple):
    """Boxes ordered by cluster and falling score, and the rank of each in its cluster."""

    order: Tensor
    rank: Tensor


def _ranked(cluster: Tensor, scores: Tensor) -> _Ranked:
    by_score = scores.argsort(descending=True, stable=True)
    order = by_score[cluster[by_score].argsort(stable=True)]
    sizes = torch.bincount(cluster)
    first = torch.cumsum(sizes, 0) - sizes
    return _Ranked(order, torch.arange(len(order), device=order.device) - first[cluster[order]])


def _aligned_yaws(yaws: Tensor, scores: Tensor, cluster: Tensor, best: Tensor, count: int) -> Tensor:
    """Headings (M,) that all point the same way within their cluster."""
    difference = limit_period(yaws - yaws[best][cluster], 0.5, 2 * math.pi)
    opposite = difference.abs() > math.pi / 2
    against = _sums(torch.where(opposite, scores, 0.0), cluster, count)
    along = _sums(torch.where(opposite, 0.0, scores), cluster, count)
    minority = torch.where((against > along)[cluster], ~opposite, opposite)
    return torch.where(minority, yaws + math.pi, yaws)


def _sums(values: Tensor, cluster: Tensor, count: int) -> Tensor:
    return values.new_zeros(count, *values.shape[1:]).index_add(0, cluster, values)


@compiled
def _greedy(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    cluster = np.full(len(near), _FREE, np.int64)
    found = 0
    for box in range(len(near)):
        if cluster[box] == _FREE:
            for other in range(len(near)):
                if near[box, other]:
                    cluster[other] = found
            found += 1
    return cluster
