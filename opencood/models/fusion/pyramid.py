"""Pyramid fusion of HEAL: every agent has a pyramid, every level is fused by where its agent expects objects.

Source: spec models.md 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.backbones.resnet import ResNetBEVBackbone
from opencood.models.fusion.base import over_agents
from opencood.models.scene import SceneFeatures
from opencood.registry import register

# Keeps the score of a covered cell above the exact zero that means "outside the agent's map".
LEAST_SCORE = 1e-4
# Cells a camera map loses at each side (half before, half after) because its border is unreliable.
BORDER = 4


@register("fusion", "pyramid", ignores=("anchor_number",))
class PyramidFusion(ResNetBEVBackbone):
    """A residual pyramid per agent with an occupancy head per level (keys as the backbone, and ``single_head_{i}``).

    Args:
        camera_ratios: for each camera modality the (H, W) ratios of the scene's map to the camera's own. In eval mode
            the occupancy of these agents counts only in the box their cameras cover. None switches that off.
        crop_wraps: a box larger than the map wraps around, as slices with a negative start do; else it is clamped.
        other arguments: as ``ResNetBEVBackbone``.
    """

    def __init__(
        self,
        layer_nums: Sequence[int],
        layer_strides: Sequence[int],
        num_filters: Sequence[int],
        upsample_strides: Sequence[float] = (),
        num_upsample_filter: Sequence[int] = (),
        inplanes: int = 64,
        resnext: bool = False,
        align_corners: bool = False,
        camera_ratios: Mapping[str, tuple[float, float]] | None = None,
        crop_wraps: bool = False,
    ) -> None:
        super().__init__(
            layer_nums, layer_strides, num_filters, upsample_strides, num_upsample_filter, inplanes, resnext
        )
        if resnext and any(2 * width % 32 for width in num_filters):
            raise ConfigError("fusion_backbone: resnext works in 32 groups, so num_filters must be multiples of 16.")
        self.align_corners = align_corners
        self.camera_ratios = dict(camera_ratios or {})
        self.crop_wraps = crop_wraps
        for i, width in enumerate(num_filters):
            self.add_module(f"single_head_{i}", nn.Conv2d(width, 1, 1))

    def forward_single(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Every agent alone: (N, C, H, W) to its decoded map and occupancy logits of each level (N, 1, H_i, W_i)."""
        levels = self.levels(x)
        return self.decode(levels), self._occupancy(levels)

    def forward_collab(self, scene: SceneFeatures) -> tuple[Tensor, list[Tensor]]:
        """The egos' decoded map (B, C', H, W), and every agent's occupancy logits at each level (N, 1, H_i, W_i)."""
        levels = self.levels(scene.map)
        occupancy = self._occupancy(levels)
        fused = [self._fuse(scene, level, logit) for level, logit in zip(levels, occupancy, strict=True)]
        return self.decode(fused), occupancy

    def _occupancy(self, levels: Sequence[Tensor]) -> list[Tensor]:
        return [self.get_submodule(f"single_head_{i}")(level) for i, level in enumerate(levels)]

    def _fuse(self, scene: SceneFeatures, level: Tensor, logit: Tensor) -> Tensor:
        score = logit.sigmoid() + LEAST_SCORE
        seen = self._camera_boxes(scene, level)
        if seen is not None:
            score = score * seen
        joint = scene.pad(scene.to_ego(torch.cat([level, score], dim=1), self.align_corners))  # (B, L, C + 1, H, W)
        maps, scores = joint[:, :, :-1], joint[:, :, -1:]
        # the score, not the logit, is the exponent; a score of exactly zero means that the agent does not see the cell
        return (over_agents(scores, scores != 0) * maps).sum(dim=1)

    def _camera_boxes(self, scene: SceneFeatures, level: Tensor) -> Tensor | None:
        """(N, 1, H, W) 0/1 mask of what counts of each agent in eval mode, or None when everything does."""
        if self.training or not self.camera_ratios:
            return None
        height, width = level.shape[-2:]
        everything = level.new_ones(1, height, width)
        masks = {m: self._box(level, *ratios) for m, ratios in self.camera_ratios.items()}
        return torch.stack([masks.get(m, everything) for m in scene.modality])

    def _box(self, level: Tensor, ratio_h: float, ratio_w: float) -> Tensor:
        height, width = level.shape[-2:]
        mask = level.new_zeros(1, height, width)
        mask[:, self._span(height, ratio_h), self._span(width, ratio_w)] = 1
        return mask

    def _span(self, size: int, ratio: float) -> slice:
        half = (size / ratio - BORDER) // 2
        start, stop = int(size // 2 - half), int(size // 2 + half)
        return slice(start, stop) if self.crop_wraps else slice(max(start, 0), max(stop, 0))
