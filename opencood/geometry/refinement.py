"""What corrects a box to another one, seen from the box: the code of second stages."""

from __future__ import annotations

import torch
from torch import Tensor

from opencood.geometry.boxes import limit_period
from opencood.geometry.coding import decode_boxes, encode_boxes


def residuals(objects: Tensor, boxes: Tensor) -> Tensor:
    """Return (K, 7) what corrects boxes (K, 7) to objects (K, 7), both in ``hwl`` order.

    Distances are along the axes of each box and coded like those to an anchor; a heading counts modulo half a turn.
    """
    apart = _turned(objects[:, :3] - boxes[:, :3], -boxes[:, 6])
    turn = limit_period(objects[:, 6:] - boxes[:, 6:], 0.5, torch.pi)
    return encode_boxes(torch.cat([apart, objects[:, 3:6], turn], dim=1), _at_origin(boxes))


def corrected(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Return the boxes (K, 7) that ``deltas`` (K, 7) correct ``boxes`` (K, 7) to; inverse of ``residuals``."""
    local = decode_boxes(deltas, _at_origin(boxes))
    centres = _turned(local[:, :3], boxes[:, 6]) + boxes[:, :3]
    return torch.cat([centres, local[:, 3:6], local[:, 6:] + boxes[:, 6:]], dim=1)


def _turned(places: Tensor, angles: Tensor) -> Tensor:
    cosine, sine = angles.cos(), angles.sin()
    x, y, z = places.unbind(dim=1)
    return torch.stack([x * cosine - y * sine, x * sine + y * cosine, z], dim=1)


def _at_origin(boxes: Tensor) -> Tensor:
    nothing = torch.zeros_like(boxes[:, :3])
    return torch.cat([nothing, boxes[:, 3:6], nothing[:, :1]], dim=1)
