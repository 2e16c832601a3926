"""Who2com's fusion: what the agents together say about a cell, beside the ego's own (spec models.md 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opencood.models.fusion.attention import AttFusion
from opencood.models.scene import SceneFeatures
from opencood.registry import register


@register("fusion", "who2com")
class Who2com(nn.Module):
    """A 3x3 convolution of the ego's map and the attention over all agents; key ``decode_layer``.

    Args:
        in_channels: channels of the map.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.attention = AttFusion(in_channels)
        self.decode_layer = nn.Conv2d(2 * in_channels, in_channels, 3, padding=1)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        return self.decode_layer(torch.cat([scene.map[scene.egos], self.attention(scene)], dim=1))
