"""DiscoNet's collaboration graph: a learned weight for every agent and pixel (spec models.md 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.fusion.base import over_agents, slots
from opencood.models.scene import SceneFeatures
from opencood.registry import register


class PixelWeightLayer(nn.Module):
    """1x1 convolutions from an agent's and its ego's map to one weight; keys ``conv1_{1..4}``, ``bn1_{1..3}``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1_1 = nn.Conv2d(2 * channels, 128, 1)
        self.bn1_1 = nn.BatchNorm2d(128)
        self.conv1_2 = nn.Conv2d(128, 32, 1)
        self.bn1_2 = nn.BatchNorm2d(32)
        self.conv1_3 = nn.Conv2d(32, 8, 1)
        self.bn1_3 = nn.BatchNorm2d(8)
        self.conv1_4 = nn.Conv2d(8, 1, 1)

    def forward(self, pair: Tensor) -> Tensor:
        """(N, 2C, H, W) to (N, 1, H, W)."""
        x = F.relu(self.bn1_1(self.conv1_1(pair)))
        x = F.relu(self.bn1_2(self.conv1_2(x)))
        x = F.relu(self.bn1_3(self.conv1_3(x)))
        return F.relu(self.conv1_4(x))


@register("fusion", "disconet")
class DiscoFusion(nn.Module):
    """softmax_j(weight([x_j, ego])) weights the maps x_j.

    Args:
        feat_dim: channels of the map.
    """

    def __init__(self, feat_dim: int) -> None:
        super().__init__()
        self.pixel_weight_layer = PixelWeightLayer(feat_dim)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        maps = scene.to_ego(scene.map)
        of_scene, _ = scene.places
        egos = scene.map[scene.egos][of_scene.to(maps.device)]
        logits = scene.pad(self.pixel_weight_layer(torch.cat([maps, egos], dim=1)))  # (B, L, 1, H, W)
        padded = scene.pad(maps)
        return (over_agents(logits, slots(scene, padded)) * padded).sum(dim=1)
