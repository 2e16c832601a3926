"""GenComm's channel enhancer (spec gencomm.md 2.3).

Published checkpoints hold two more blocks and an attention in each, which nothing ever calls. Their entries are kept
here, so that checkpoints load and save completely, and cost no time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RESTING_ANGLES = (5, 4)


class RestingAttention(nn.Module):
    """Entries of the attention that is never called; keys ``angle_bias_table, qkv.{to_q, to_kv}, proj``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.angle_bias_table = nn.Parameter(torch.zeros(RESTING_ANGLES))
        self.qkv = nn.ModuleDict({"to_q": nn.Linear(channels, channels), "to_kv": nn.Linear(channels, 2 * channels)})
        self.proj = nn.Linear(channels, channels)


class GatedFeedForward(nn.Module):
    """A feed-forward part one half of which is refined by its neighbours and scales the other.

    Keys ``linear1.0, dwconv.0, linear2.0, partial_conv3``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.linear1 = nn.Sequential(nn.Linear(channels, 2 * hidden), nn.GELU())
        self.dwconv = nn.Sequential(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden), nn.GELU())
        self.linear2 = nn.Sequential(nn.Linear(hidden, channels))
        self.mixed = channels // 4
        self.partial_conv3 = nn.Conv2d(self.mixed, self.mixed, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        level = x.permute(0, 3, 1, 2)
        mixed = self.partial_conv3(level[:, : self.mixed])
        x = torch.cat([mixed, level[:, self.mixed :]], dim=1).permute(0, 2, 3, 1)
        gate, value = self.linear1(x).chunk(2, dim=-1)
        gate = self.dwconv(gate.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.linear2(gate * value)


class EnhancerBlock(nn.Module):
    """Keys ``attn`` (at rest), ``mlp, norm1, norm2``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = RestingAttention(channels)
        self.mlp = GatedFeedForward(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        x = x + self.norm1(x)
        return x + self.mlp(self.norm2(x))


class ChannelGate(nn.Module):
    """A factor per channel and agent from the mean of its map; keys ``fc1, bn1`` (a LayerNorm), ``fc2``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels, bias=False)
        self.bn1 = nn.LayerNorm(channels)
        self.fc2 = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        mean = x.mean(dim=(1, 2), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.bn1(self.fc1(mean)))))


class ChannelEnhancer(nn.Module):
    """Refines generated features, every agent by itself; keys ``block_{1,2,3}, split_attn``.

    Args:
        in_ch: channels of the map, a multiple of 4.
    """

    def __init__(self, in_ch: int) -> None:
        super().__init__()
        self.block_1, self.block_2, self.block_3 = (EnhancerBlock(in_ch) for _ in range(3))
        self.split_attn = ChannelGate(in_ch)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        enhanced = self.split_attn(self.block_1(x.permute(0, 2, 3, 1)))
        return enhanced.permute(0, 3, 1, 2).contiguous()
