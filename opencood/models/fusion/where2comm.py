"""Where2comm's fusion: multi-head attention of the ego's cell over the agents (spec models.md 3.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.scene import SceneFeatures
from opencood.registry import register

HEADS = 8


class CellAttention(nn.Module):
    """LN2(a + lin2(ReLU(lin1 a))) with a = LN1(ego + attention(ego, agents, agents))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(channels, HEADS)
        self.linear1 = nn.Linear(channels, channels)
        self.linear2 = nn.Linear(channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, agents: Tensor, absent: Tensor) -> Tensor:
        """Tokens (L, cells, C) of all agents, the ego first, and a mask (cells, L) of empty slots, to (cells, C)."""
        ego = agents[:1]
        attended, _ = self.attn(ego, agents, agents, key_padding_mask=absent, need_weights=False)
        cell = self.norm1(ego + attended)
        return self.norm2(cell + self.linear2(F.relu(self.linear1(cell))))[0]


@register("fusion", "where2comm")
class Where2comm(nn.Module):
    """Attention over agents at every cell; keys ``mha_fusion.*``. No map is masked here: that is the link's business.

    Args:
        in_channels: channels of the map, a multiple of 8.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.mha_fusion = CellAttention(in_channels)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        maps = scene.pad(scene.to_ego(scene.map))  # (B, L, C, H, W)
        scenes, slots, channels, height, width = maps.shape
        tokens = maps.permute(1, 0, 3, 4, 2).reshape(slots, -1, channels)
        absent = ~scene.presence.to(maps.device).repeat_interleave(height * width, dim=0)
        fused = self.mha_fusion(tokens, absent)
        return fused.view(scenes, height, width, channels).permute(0, 3, 1, 2).contiguous()
