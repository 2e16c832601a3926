"""Pieces that the transformer fusions share: pre-norm residual branches, feed-forward, windows."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from opencood.errors import ConfigError


class PreNorm(nn.Module):
    """fn(LayerNorm(x)); keys ``norm``, ``fn``."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        """(..., dim) to (..., dim); what follows x is handed on."""
        return self.fn(self.norm(x), *rest)


class FeedForward(nn.Module):
    """Linear, GELU, Linear with dropout; keys ``net.{0,3}``."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to the same shape."""
        return self.net(x)


def to_windows(x: Tensor, size: int, dilated: bool = False) -> Tensor:
    """(B, L, H, W, C) to tokens (B, rows, columns, L, size * size, C) of size x size cells.

    The cells of a window are neighbours; dilated, they are H / size rows and W / size columns apart.
    """
    batch, slots, height, width, channels = x.shape
    check_divides(height, width, size)
    if dilated:
        split = x.view(batch, slots, size, height // size, size, width // size, channels)
        ordered = split.permute(0, 3, 5, 1, 2, 4, 6)
    else:
        split = x.view(batch, slots, height // size, size, width // size, size, channels)
        ordered = split.permute(0, 2, 4, 1, 3, 5, 6)
    return ordered.flatten(4, 5)


def from_windows(tokens: Tensor, size: int, dilated: bool = False) -> Tensor:
    """The inverse of :func:`to_windows`."""
    batch, rows, columns, slots, _, channels = tokens.shape
    split = tokens.unflatten(4, (size, size))  # (B, rows, columns, L, size, size, C)
    order = (0, 3, 4, 1, 5, 2, 6) if dilated else (0, 3, 1, 4, 2, 5, 6)
    return split.permute(order).reshape(batch, slots, rows * size, columns * size, channels)


def check_divides(height: int, width: int, size: int) -> None:
    """Raise ConfigError unless windows of ``size`` tile the map."""
    if height % size or width % size:
        raise ConfigError(f"fusion: a map of {height} x {width} cells cannot be cut into windows of {size} x {size}.")
