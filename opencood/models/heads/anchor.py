"""Heads over anchors: class, box and direction of every anchor of a cell (spec models.md 4.1)."""

from __future__ import annotations

import math

from torch import nn

BOX_NUMBERS = 7
# Few anchors hold an object: starting from this probability keeps the first steps from being spent on the background.
PRIOR = 0.01


def class_head(in_channels: int, anchors: int, classes: int = 1) -> nn.Conv2d:
    """1x1 convolution to the class logits, anchor-major: ``anchors`` per class, each with a logit for every class."""
    head = nn.Conv2d(in_channels, anchors * classes * classes, 1)
    nn.init.normal_(head.weight, std=0.01)
    return _biased(head, -math.log((1 - PRIOR) / PRIOR))


def box_head(in_channels: int, anchors: int, classes: int = 1, numbers: int = BOX_NUMBERS) -> nn.Conv2d:
    """1x1 convolution to the box residuals of every anchor, channel a * numbers + k."""
    head = nn.Conv2d(in_channels, numbers * anchors * classes, 1)
    nn.init.normal_(head.weight, std=0.001)
    return _biased(head, 0.0)


def direction_head(in_channels: int, anchors: int, bins: int) -> nn.Conv2d:
    """1x1 convolution to the direction bins of every anchor."""
    return nn.Conv2d(in_channels, anchors * bins, 1)


def _biased(head: nn.Conv2d, bias: float) -> nn.Conv2d:
    if head.bias is not None:
        nn.init.constant_(head.bias, bias)
    return head
