"""Boxes as deltas to anchors, and the direction bins that settle which way a box looks (evaluation.md, sections 2
and 3).

Boxes and anchors are in ``hwl`` order: ``x, y, z, h, w, l, yaw``.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch

from opencood.geometry.boxes import limit_period

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def encode_boxes(boxes: Array, anchors: Array) -> Array:
    """Return (..., 7) deltas of boxes (..., 7) to anchors (..., 7).

    Distances in the ground plane are in units of the anchor's diagonal, heights in units of its height, sizes
    logarithmic; the difference of yaws is not wrapped.
    """
    np_or_torch = torch if isinstance(boxes, torch.Tensor) else np
    plane = (boxes[..., :2] - anchors[..., :2]) / _diagonal(anchors)
    height = (boxes[..., 2:3] - anchors[..., 2:3]) / anchors[..., 3:4]
    sizes = np_or_torch.log(boxes[..., 3:6] / anchors[..., 3:6])
    return _join([plane, height, sizes, boxes[..., 6:7] - anchors[..., 6:7]])


def decode_boxes(deltas: Array, anchors: Array) -> Array:
    """Return (..., 7) boxes of deltas (..., 7) to anchors (..., 7); inverse of ``encode_boxes``."""
    np_or_torch = torch if isinstance(deltas, torch.Tensor) else np
    plane = deltas[..., :2] * _diagonal(anchors) + anchors[..., :2]
    height = deltas[..., 2:3] * anchors[..., 3:4] + anchors[..., 2:3]
    sizes = np_or_torch.exp(deltas[..., 3:6]) * anchors[..., 3:6]
    return _join([plane, height, sizes, deltas[..., 6:7] + anchors[..., 6:7]])


def flatten_head(head: Array, channels: int) -> Array:
    """Return (B, H * W * K, channels) of a head (B, K * channels, H, W): candidate index = (y * W + x) * K + k."""
    last = head.permute(0, 2, 3, 1) if isinstance(head, torch.Tensor) else head.transpose(0, 2, 3, 1)
    return last.reshape(head.shape[0], -1, channels)


def direction_bins(yaw: Array, num_bins: int, dir_offset: float) -> Array:
    """Return the int64 bin of each yaw (radians); the first bin starts at ``dir_offset``."""
    share = limit_period(yaw - dir_offset, 0.0, 2 * math.pi) / (2 * math.pi / num_bins)
    if isinstance(yaw, torch.Tensor):
        return share.floor().long().clamp(0, num_bins - 1)
    return np.clip(np.floor(share).astype(np.int64), 0, num_bins - 1)


def direction_targets(yaw_deltas: Array, anchor_yaws: Array, num_bins: int, dir_offset: float) -> Array:
    """Return (..., num_bins) one-hot direction targets of encoded yaws (...) and the yaws of their anchors (radians).

    The result has the type and precision of ``yaw_deltas``.
    """
    bins = direction_bins(yaw_deltas + anchor_yaws, num_bins, dir_offset)
    if isinstance(yaw_deltas, torch.Tensor):
        return torch.nn.functional.one_hot(bins, num_bins).to(yaw_deltas)
    return np.eye(num_bins, dtype=yaw_deltas.dtype)[bins]


def correct_direction(yaw: Array, bins: Array, num_bins: int, dir_offset: float) -> Array:
    """Return yaws turned into their predicted bin, wrapped to [-pi, pi).

    Args:
        yaw: (...) radians, known up to whole bins.
        bins: (...) integer bins, 0 to ``num_bins - 1``.
    """
    period = 2 * math.pi / num_bins
    floating = bins.to(yaw.dtype) if isinstance(bins, torch.Tensor) else bins.astype(yaw.dtype)
    turned = limit_period(yaw - dir_offset, 0.0, period) + dir_offset + period * floating
    return limit_period(turned, 0.5, 2 * math.pi)


def _diagonal(anchors: Array) -> Array:
    return (anchors[..., 4:5] ** 2 + anchors[..., 5:6] ** 2) ** 0.5


def _join(parts: list[Array]) -> Array:
    return torch.cat(parts, dim=-1) if isinstance(parts[0], torch.Tensor) else np.concatenate(parts, axis=-1)
