"""STAMP's adapters that attend: over patches, and deformably (spec gencomm.md 5)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.backbones.deformable import sample_cells
from opencood.models.links.adapters import GridAdapter
from opencood.registry import register

LONGEST_PERIOD = 10_000.0


class AttentionBlock(nn.Module):
    """Pre-norm attention and feed-forward, both residual; keys ``norm1, attn, norm2, mlp.{0,3}``."""

    def __init__(self, dim: int, num_heads: int, over_tokens: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, bias=False, batch_first=over_tokens)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = feed_forward(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, T, dim) to the same shape."""
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


def feed_forward(dim: int) -> nn.Sequential:
    """Four times as wide in between; linear maps at 0 and 3."""
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Identity(), nn.Linear(4 * dim, dim))


@register("adapter", "adapteratt")
class PatchAttentionAdapter(GridAdapter):
    """Resize, patches, transformer blocks, back to cells; the layer ``smoothing`` rests, as published."""

    def build(
        self,
        in_channels: int,
        out_channels: int,
        dim: int = 64,
        patch_size: int = 4,
        num_heads: int = 4,
        depth: int = 2,
        early_scale: float = 1.0,
        over_tokens: bool = False,
    ) -> None:
        """Args: ``over_tokens`` lets patches of one map attend to each other.

        Published checkpoints attend across the maps of a batch instead, patch by patch, which is the default.
        """
        self.early_scale, self.patch_size = early_scale, patch_size
        height, width = self.grid.out_shape
        self.pos_embed = nn.Parameter(torch.zeros(1, (height // patch_size) * (width // patch_size), dim))
        self.channel_convert1 = nn.Conv2d(in_channels, dim, 1)
        self.channel_convert2 = nn.Conv2d(dim, out_channels, 1)
        self.smoothing = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.patch_embed = nn.Conv2d(dim, dim, patch_size, stride=patch_size)
        self.blocks = nn.ModuleList(AttentionBlock(dim, num_heads, over_tokens) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W').

        Raises:
            ConfigError: the map has another number of patches than ``out_feature_shape`` says.
        """
        patches = self.patch_embed(self.channel_convert1(self.grid.resize(x * self.early_scale)))
        tokens = patches.flatten(2).transpose(1, 2)
        if tokens.shape[1] != self.pos_embed.shape[1]:
            raise ConfigError(
                f"adapteratt: made for {self.pos_embed.shape[1]} patches of {self.patch_size} x {self.patch_size} "
                f"cells, but the map has {tokens.shape[1]}; out_feature_shape must be the size of the real map."
            )
        tokens = tokens + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        coarse = self.norm(tokens).transpose(1, 2).unflatten(2, patches.shape[-2:])
        fine = F.interpolate(coarse, scale_factor=float(self.patch_size), mode="bilinear", align_corners=False)
        return self.channel_convert2(fine)


class DeformableAttention(nn.Module):
    """Every cell reads a few places near it, chosen and weighted by itself (Zhu et al. 2021, one level).

    Keys ``sampling_offsets, attention_weights, value_proj, output_proj``.
    """

    def __init__(self, dim: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"adapterdsa: dim {dim} is no multiple of num_heads {num_heads}.")
        self.heads, self.points = num_heads, num_points
        self.sampling_offsets = nn.Linear(dim, 2 * num_heads * num_points)
        self.attention_weights = nn.Linear(dim, num_heads * num_points)
        self.value_proj, self.output_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.sampling_offsets.weight)
        # head h looks in its own direction, point k further out
        angles = torch.arange(num_heads) * (2 * math.pi / num_heads)
        rays = torch.stack([angles.sin(), angles.cos()], dim=-1)[:, None] * torch.arange(1, num_points + 1)[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(rays.flatten())

    def forward(self, query: Tensor, x: Tensor) -> Tensor:
        """Queries and values (N, H, W, C) to (N, H, W, C)."""
        count, height, width, _ = x.shape
        shape = (count, height, width, self.heads, self.points)
        weights = self.attention_weights(query).view(shape).softmax(dim=-1)
        axes = (torch.arange(size, device=x.device, dtype=x.dtype) for size in (height, width))
        cells = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        places = cells[:, :, None, None] + self.sampling_offsets(query).view(*shape, 2)
        values = self.value_proj(x).unflatten(-1, (self.heads, -1)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        read = sample_cells(values, places.permute(0, 3, 4, 1, 2, 5).flatten(0, 1))  # (N heads, D, points, H, W)
        share = weights.permute(0, 3, 4, 1, 2).flatten(0, 1)[:, None]
        mixed = (read * share).sum(dim=2).unflatten(0, (count, self.heads)).flatten(1, 2)
        return self.output_proj(mixed.permute(0, 2, 3, 1))


class DeformableBlock(nn.Module):
    """Pre-norm deformable attention and feed-forward, both residual."""

    def __init__(self, dim: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = DeformableAttention(dim, num_heads, num_points)
        self.mlp = feed_forward(dim)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """(N, H, W, dim) and the encoding of the cells (H, W, dim) to (N, H, W, dim)."""
        y = self.norm1(x)
        x = x + self.attn(y + places, y)
        return x + self.mlp(self.norm2(x))


@register("adapter", "adapterdsa")
class DeformableAdapter(GridAdapter):
    """Resize, deformable attention with sinusoidal positions, padding or crop. No published checkpoint is known."""

    pads = True

    def build(
        self,
        in_channels: int,
        out_channels: int,
        dim: int = 64,
        num_heads: int = 4,
        num_points: int = 4,
        depth: int = 2,
    ) -> None:
        """Args: width, heads and read places of the attention, number of blocks."""
        if dim % 4:
            raise ConfigError(f"adapterdsa: dim {dim} is no multiple of 4, which the encoding of positions needs.")
        self.channel_convert1 = nn.Conv2d(in_channels, dim, 1)
        self.blocks = nn.ModuleList(DeformableBlock(dim, num_heads, num_points) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.channel_convert2 = nn.Conv2d(dim, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        y = self.channel_convert1(self.grid.resize(x)).permute(0, 2, 3, 1)
        places = cell_encoding(y)
        for block in self.blocks:
            y = block(y, places)
        return self.grid.fit(self.channel_convert2(self.norm(y).permute(0, 3, 1, 2)))


def cell_encoding(like: Tensor) -> Tensor:
    """Sines and cosines of row and column (H, W, C) for maps (N, H, W, C)."""
    _, height, width, channels = like.shape
    quarter = channels // 4
    rates = LONGEST_PERIOD ** (-torch.arange(quarter, device=like.device) / quarter)
    waves = []
    for axis, size in ((0, height), (1, width)):
        angles = torch.arange(size, device=like.device)[:, None] * rates
        wave = torch.cat([angles.sin(), angles.cos()], dim=-1)
        waves.append(wave.unsqueeze(1 - axis).expand(height, width, -1))
    return torch.cat(waves, dim=-1).to(like)
