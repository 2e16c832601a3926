"""Sparse convolution: one gather, one matrix product and one addition per tap, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from opencood.models.precision import own_precision
from opencood.models.sparse import spconv_backend
from opencood.models.sparse.index_sets import Kernel, Pairs, index_set
from opencood.models.sparse.volume import SparseTensor


def convolve(volume: SparseTensor, matrices: Tensor, kernel: Kernel) -> SparseTensor:
    """Convolve with the matrices (taps, C_in, C_out) of a kernel, in the precision of the matrices.

    spconv does it where it is installed and the volume is on a GPU, plain PyTorch everywhere else.
    """
    with own_precision(volume.features):
        volume = volume.with_features(volume.features.to(matrices.dtype))
        # spconv refuses a volume without any site
        if volume.features.is_cuda and len(volume.sites) and spconv_backend.available():
            return spconv_backend.convolve(volume, matrices, kernel)
        return convolve_plain(volume, matrices, kernel)


def convolve_plain(volume: SparseTensor, matrices: Tensor, kernel: Kernel) -> SparseTensor:
    """The same in plain PyTorch, on any device."""
    index = index_set(volume.sites, kernel)
    sites = volume.sites if index.outputs is None else index.outputs
    return SparseTensor(_TapByTap.apply(volume.features, matrices, index.pairs, len(sites)), sites)


class _TapByTap(torch.autograd.Function):
    """Gathers again in the backward pass: what autograd would keep of every tap is many times the volume."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, matrices: Tensor, pairs: Sequence[Pairs], rows: int) -> Tensor:
        ctx.save_for_backward(features, matrices)
        ctx.pairs = pairs
        outputs = features.new_zeros(rows, matrices.shape[2])
        for matrix, pair in zip(matrices, pairs, strict=True):
            _add(outputs, _target(pair), _rows(features, _source(pair)) @ matrix)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, matrices = ctx.saved_tensors
        of_features = torch.zeros_like(features) if ctx.needs_input_grad[0] else None
        of_matrices = torch.zeros_like(matrices) if ctx.needs_input_grad[1] else None
        for tap, pair in enumerate(ctx.pairs):
            arrived = _rows(gradient, _target(pair))
            if of_features is not None:
                _add(of_features, _source(pair), arrived @ matrices[tap].T)
            if of_matrices is not None:
                torch.mm(_rows(features, _source(pair)).T, arrived, out=of_matrices[tap])
        return of_features, of_matrices, None, None


def _source(pair: Pairs) -> Tensor | None:
    return None if pair is None else pair[0]


def _target(pair: Pairs) -> Tensor | None:
    return None if pair is None else pair[1]


def _rows(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values.index_select(0, rows)


def _add(totals: Tensor, rows: Tensor | None, values: Tensor) -> None:
    if rows is None:
        totals.add_(values)
    else:
        totals.index_add_(0, rows.to(totals.device), values)  # shapes may be wanted without content (meta)
