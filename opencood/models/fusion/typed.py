"""Layers of which every agent type has its own: norm, linear, feed-forward. All agents in one batched product.

Maps are (*groups, ..., C) and types (*groups): every group is one agent's map, or one agent's map as another sees it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def by_type(layers: Iterable[nn.Module], x: Tensor, kinds: Tensor) -> Tensor:
    """(*groups, ..., C) to (*groups, ..., channels), each group through the layer of its type."""
    weights, biases = zip(*((layer.weight, layer.bias) for layer in layers), strict=True)
    chosen = kinds.flatten()
    flat = x.flatten(0, kinds.dim() - 1).flatten(1, -2)
    product = torch.baddbmm(torch.stack(biases)[chosen][:, None], flat, torch.stack(weights)[chosen].transpose(1, 2))
    return product.view(*x.shape[:-1], -1)


class TypedNorm(nn.Module):
    """A LayerNorm per type; keys ``net.{t}``."""

    def __init__(self, dim: int, types: int) -> None:
        super().__init__()
        self.net = nn.ModuleList(nn.LayerNorm(dim) for _ in range(types))

    def forward(self, x: Tensor, kinds: Tensor) -> Tensor:
        """(*groups, ..., C) to the same shape."""
        shape = (*kinds.shape, *(1,) * (x.dim() - kinds.dim() - 1), -1)
        scale, shift = (
            torch.stack([getattr(norm, name) for norm in self.net])[kinds].view(shape) for name in ("weight", "bias")
        )
        return F.layer_norm(x, x.shape[-1:]) * scale + shift


class TypedFeedForward(nn.Module):
    """Linear, GELU, dropout, Linear, dropout per type; keys ``net.{t}.{0,3}``."""

    def __init__(self, dim: int, hidden: int, out: int, types: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, out))
            for _ in range(types)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, kinds: Tensor) -> Tensor:
        """(*groups, ..., dim) to (*groups, ..., out)."""
        hidden = self.drop(F.gelu(by_type([net.get_submodule("0") for net in self.net], x, kinds)))
        return self.drop(by_type([net.get_submodule("3") for net in self.net], hidden, kinds))


class TypedPreNorm(nn.Module):
    """fn(norm(x)); keys ``norm``, ``fn``."""

    def __init__(self, norm: TypedNorm, fn: TypedFeedForward) -> None:
        super().__init__()
        self.norm = norm
        self.fn = fn

    def forward(self, x: Tensor, kinds: Tensor) -> Tensor:
        """(*groups, ..., C) to the same shape."""
        return self.fn(self.norm(x, kinds), kinds)
