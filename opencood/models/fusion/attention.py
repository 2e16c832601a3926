"""Per-pixel attention of the ego to all agents (OPV2V; spec models.md 3.2)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from opencood.models.fusion.base import over_agents, slots
from opencood.models.scene import SceneFeatures
from opencood.registry import register


@register("fusion", "att")
class AttFusion(nn.Module):
    """softmax_j(x_0 . x_j / sqrt(d)) weights the maps x_j; no parameters.

    Args:
        feat_dim: d; it only scales, so files whose value is not the width of the map run as they did.
    """

    def __init__(self, feat_dim: int) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(feat_dim)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        maps = scene.pad(scene.to_ego(scene.map))  # (B, L, C, H, W)
        logits = (maps[:, :1] * maps).sum(dim=2, keepdim=True) * self.scale
        return (over_agents(logits, slots(scene, maps)) * maps).sum(dim=1)
