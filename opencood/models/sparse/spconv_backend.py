"""Sparse convolution by spconv 2.x, for volumes on a GPU."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from opencood.models.sparse.index_sets import Kernel
from opencood.models.sparse.volume import Sites, SparseTensor

# Where the sites keep what spconv has worked out for them.
KNOWN = "spconv"


@cache
def available() -> bool:
    """Whether spconv 2.x is installed."""
    try:
        import spconv.pytorch
    except ImportError:
        return False
    return hasattr(spconv.pytorch, "SubMConv3d")


def convolve(volume: SparseTensor, matrices: Tensor, kernel: Kernel) -> SparseTensor:
    """Convolve with the matrices (taps, C_in, C_out) of a kernel. The sites that result are in no particular order."""
    import spconv.pytorch

    sites = volume.sites
    known: dict[str, Any] = sites.cache.setdefault(KNOWN, {})
    inputs = spconv.pytorch.SparseConvTensor(
        volume.features, sites.coords.int(), list(sites.shape), sites.agents, indice_dict=known
    )
    outputs = _layer(matrices, kernel)(inputs)
    if kernel.submanifold:
        return volume.with_features(outputs.features)
    shape = kernel.output_shape(sites.shape)
    return SparseTensor(outputs.features, Sites(outputs.indices.long(), shape, sites.agents))


def _layer(matrices: Tensor, kernel: Kernel) -> Any:
    """spconv's layer with our weight; its key makes layers on the same sites share their index set."""
    import spconv.pytorch

    in_channels, out_channels = matrices.shape[1:]
    kind = spconv.pytorch.SubMConv3d if kernel.submanifold else spconv.pytorch.SparseConv3d
    with torch.device("meta"):  # its own weight is not wanted: no memory, no random numbers
        layer = kind(
            in_channels,
            out_channels,
            list(kernel.size),
            stride=list(kernel.stride),
            padding=list(kernel.padding),
            bias=False,
            indice_key=str(kernel) if kernel.submanifold else None,
        )
    del layer.weight
    layer.weight = matrices.reshape(*kernel.size, in_channels, out_channels).permute(4, 0, 1, 2, 3).contiguous()
    return layer
