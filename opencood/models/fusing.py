"""The fuse stage: how often, and at which levels of a backbone, the agents' maps become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.fusion.pyramid import PyramidFusion
from opencood.models.links.masked_link import FUSED_MASK
from opencood.models.scene import SceneFeatures


class Levels(Protocol):
    """A backbone that a fuse stage can own."""

    def levels(self, x: Tensor) -> list[Tensor]:
        """The map at every level."""

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """All levels at one size, concatenated."""


@dataclass(frozen=True)
class NoFusion:
    """Every agent for itself."""

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """The scene as it is."""
        return scene


@dataclass(frozen=True)
class FuseOnce:
    """One fusion of one map."""

    net: nn.Module

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to (B, C, H, W)."""
        return scene.fused(self.net(scene))


@dataclass(frozen=True)
class FuseLevels:
    """A backbone runs per agent, every level is fused by its own net, and the fused levels are decoded."""

    backbone: Levels
    nets: Sequence[nn.Module]

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to the decoded (B, C', H', W')."""
        levels = self.backbone.levels(scene.map)
        fused = [net(scene.with_maps(level)) for net, level in zip(self.nets, levels, strict=True)]
        return scene.fused(self.backbone.decode(fused))


@dataclass(frozen=True)
class FuseMaskedLevels:
    """The same, each agent's levels masked by what its message says (``_mask`` in ``aux``; all cells without one)."""

    backbone: Levels
    nets: Sequence[nn.Module]

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to the decoded (B, C', H', W')."""
        mask = scene.aux.get(FUSED_MASK)
        fused = []
        for net, level in zip(self.nets, self.backbone.levels(scene.map), strict=True):
            if mask is not None:
                # the mask gets coarser with the levels
                mask = F.max_pool2d(mask, mask.shape[-1] // level.shape[-1])
            fused.append(net(scene.with_maps(level if mask is None else level * mask)))
        return scene.fused(self.backbone.decode(fused))


@dataclass(frozen=True)
class FuseLikePyramid:
    """One fusion of one map in a model whose other choice is the pyramid: the outputs of both are alike."""

    net: nn.Module

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to (B, C, H, W)."""
        return scene.fused(self.net(scene), pyramid="collab", occ_single_list=[])


@dataclass(frozen=True)
class FusePyramid:
    """A pyramid per agent, fused at every level by occupancy."""

    net: PyramidFusion

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to the decoded (B, C', H', W')."""
        fused, occupancy = self.net.forward_collab(scene)
        return scene.fused(fused, pyramid="collab", occ_single_list=occupancy)


@dataclass(frozen=True)
class PyramidAlone:
    """The pyramid of every agent for itself."""

    net: PyramidFusion

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to the decoded (N, C', H', W')."""
        decoded, occupancy = self.net.forward_single(scene.map)
        return scene.with_maps(decoded, pyramid="single", occ_single_list=occupancy)
