"""Layouts of sparse convolution weights. Source: spec models.md 6.3.

Ours is that of spconv 2.x, (out, kz, ky, kx, in); checkpoints made with 1.x have (kz, ky, kx, in, out).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from opencood.errors import CheckpointError


def tap_matrices(weight: Tensor, arriving: int) -> Tensor:
    """A weight (out, kz, ky, kx, in) as one matrix per tap (kz * ky * kx, arriving, out).

    A layer declared for more channels than arrive uses the first matrices of its flat 1.x weight, as the 1.x library
    did: this keeps published networks with such a first layer exact.
    """
    taps = prod(weight.shape[1:4])
    return weight.permute(1, 2, 3, 4, 0).reshape(-1, arriving, weight.shape[0])[:taps]


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a weight of this shape is, or can become, one of the wanted 2.x shape."""
    out_channels, *kernel, in_channels = wanted
    if tuple(shape) == tuple(wanted):
        return True
    same_layer = len(shape) == 5 and [*shape[:3], shape[4]] == [*kernel, out_channels]
    return same_layer and shape[3] >= in_channels and prod(shape) % (in_channels * out_channels) == 0


def sparse_weight_to_v2(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """A sparse convolution weight of layout 1.x (k, k, k, in, out) as 2.x (out, k, k, k, in) of the given shape.

    A first layer declared for more input channels than the data have is narrowed as in :func:`tap_matrices`.

    Raises:
        CheckpointError: the weight is neither of the two.
    """
    wanted = tuple(shape)
    if tuple(weight.shape) == wanted:
        return weight
    if not fits(weight.shape, wanted):
        raise CheckpointError(f"a sparse weight of shape {tuple(weight.shape)} cannot become {wanted}.")
    out_channels, *kernel, in_channels = wanted
    matrices = weight.reshape(-1, in_channels, out_channels)[: prod(kernel)]
    return matrices.reshape(*kernel, in_channels, out_channels).permute(4, 0, 1, 2, 3).contiguous()
