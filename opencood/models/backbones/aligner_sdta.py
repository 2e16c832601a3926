"""Split depth-wise transpose attention aligner (EdgeNeXt blocks; spec models.md 2.5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn, ones

from opencood.models.backbones.aligner import ConvNeXtBlock, layer_scale
from opencood.registry import register

HEADS = 4
NORM_EPS = 1e-6


class ChannelCrossAttention(nn.Module):
    """Attention between channels: their maps are the vectors that are compared."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(ones(HEADS, 1, 1))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, cells, dim) to the same shape."""
        count, cells, dim = tokens.shape
        qkv = self.qkv(tokens).view(count, cells, 3, HEADS, dim // HEADS).permute(2, 0, 3, 4, 1)
        query, key, value = qkv.unbind(0)  # (N, heads, dim / heads, cells)
        similarity = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        mixed = (similarity * self.temperature).softmax(dim=-1) @ value
        return self.proj(mixed.permute(0, 3, 1, 2).reshape(count, cells, dim))


class SDTAEncoder(nn.Module):
    """Depth-wise 1x1 convolutions, channel attention, and a per-cell network around a shortcut."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma_xca = layer_scale(dim)
        self.gamma = layer_scale(dim)
        self.convs = nn.Sequential(
            nn.Conv2d(dim, dim, 1, groups=dim), nn.ReLU(), nn.Conv2d(dim, dim, 1, groups=dim), nn.ReLU()
        )
        self.norm_xca = nn.LayerNorm(dim, eps=NORM_EPS)
        self.xca = ChannelCrossAttention(dim)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        tokens = self.convs(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.gamma_xca * self.xca(self.norm_xca(tokens))
        tokens = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(tokens))))
        return x + tokens.transpose(1, 2).reshape(x.shape)


@register("aligner", "sdta")
class SDTAAligner(nn.Module):
    """Pairs of a ConvNeXt block with kernel 1 and an SDTA encoder; keys ``model.{2b}``, ``model.{2b+1}``."""

    def __init__(self, dim: int, num_of_blocks: int) -> None:
        super().__init__()
        blocks = [
            block for _ in range(num_of_blocks) for block in (ConvNeXtBlock(dim, kernel_size=1), SDTAEncoder(dim))
        ]
        self.model = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        return self.model(x)
