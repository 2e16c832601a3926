"""Element-wise maximum (F-Cooper; spec models.md 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from opencood.models.scene import SceneFeatures
from opencood.registry import register


@register("fusion", "max")
class MaxFusion(nn.Module):
    """The largest value over the agents; outside an agent's field its zeros take part."""

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        return scene.pad(scene.to_ego(scene.map), fill=float("-inf")).amax(dim=1)
