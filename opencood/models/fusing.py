"""The fuse stage: how often, and at which levels of a backbone, the agents' maps become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.fusion.pyramid import PyramidFusion
from opencood.models.links.masked_link import FUSED_MASK
from opencood.models.scene import SceneFeatures


class Levels(Protocol):
    """A backbone that a fuse stage can own."""

    def levels(self, x: Tensor, first: int = 0) -> list[Tensor]:
        """The map at every level from ``first`` on, ``x`` being what that level is computed from."""

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
class FuseTyped:
    """One fusion of one map by a net that asks for the agents' types, which follow from their modalities."""

    net: nn.Module
    types: Mapping[str, int]

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to (B, C, H, W), the scenes with the types of their egos."""
        typed = replace(scene, kind=torch.tensor([self.types[m] for m in scene.modality]))
        return typed.fused(self.net(typed))


@dataclass(frozen=True)
class FuseTelling:
    """One fusion of one map that has more to publish: its net returns the map and the extra outputs."""

    net: nn.Module

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to (B, C, H, W)."""
        fused, outputs = self.net(scene)
        return scene.fused(fused, **outputs)


@dataclass(frozen=True)
class FuseLevels:
    """A backbone runs per agent, every level is fused by its own net, and the fused levels are decoded.

    Attributes:
        from_first: the map that arrives is level 0 already, because level 0 is what agents send.
    """

    backbone: Levels
    nets: Sequence[nn.Module]
    from_first: bool = False

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to the decoded (B, C', H', W')."""
        level = scene.map
        levels = [level, *self.backbone.levels(level, first=1)] if self.from_first else self.backbone.levels(level)
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
class FuseAndKeep(FuseLevels):
    """The same, and what every agent's own levels decode to, for heads that judge each agent alone (``_own``)."""

    from_first: bool = True

    def __call__(self, scene: SceneFeatures) -> SceneFeatures:
        """(N, C, H, W) to the decoded (B, C', H', W'), with (N, C', H', W') aside."""
        own = self.backbone.decode([scene.map, *self.backbone.levels(scene.map, first=1)])
        return super().__call__(scene.with_maps(scene.map, _own=own))


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
