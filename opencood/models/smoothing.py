"""The fixed filter that smooths confidence before cells are chosen (Where2comm, CodeFilling, CodeAlign)."""

from __future__ import annotations

import math

import torch
from torch import nn


def gaussian_filter(size: int, sigma: float) -> nn.Conv2d:
    """A convolution over ``size`` x ``size`` cells, as it lies in checkpoints: with a bias, which is zero.

    As published the density is not normalised, and stands over ``sigma`` instead of over its square.
    """
    reach = torch.arange(size, dtype=torch.float32) - size // 2
    squared = reach[:, None].square() + reach[None].square()
    layer = nn.Conv2d(1, 1, size, padding=(size - 1) // 2)
    with torch.no_grad():
        layer.weight.copy_((-squared / (2 * sigma**2)).exp() / (2 * math.pi * sigma))
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
