"""V2X-ViT with what its agents know of each other: delay, motion since then, vehicle or infrastructure.

Source: spec homogeneous.md 3.5. Keys ``encoder.*``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.geometry.warp import pixel_sampling, warp
from opencood.models.fusion.v2xvit import V2XTEncoder
from opencood.models.scene import SceneFeatures
from opencood.registry import REGISTRY, Entry, register

STEPS = 100
WAVELENGTH = 10000.0


class DelayTable(nn.Module):
    """A vector for every delay up to 99 steps, waves at first, and a linear layer; keys ``emb``, ``lin``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(STEPS, dim)
        self.emb.weight.data.copy_(_waves(dim))
        self.lin = nn.Linear(dim, dim)

    def forward(self, steps: Tensor) -> Tensor:
        """Steps (...) to vectors (..., dim)."""
        return self.lin(self.emb(steps.clamp(0, STEPS - 1)))


class DelayEncoding(nn.Module):
    """What is added to a map for its delay; key ``emb``."""

    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.emb = DelayTable(dim)

    def forward(self, x: Tensor, delay: Tensor) -> Tensor:
        """Maps (B, L, H, W, dim) and delays (B, L) in frames to maps of the same shape."""
        return x + self.emb(delay.long() * self.ratio)[:, :, None, None, :]


class MovingEncoder(V2XTEncoder):
    """The encoder with the delays' vectors ``rte``, the warp by the agents' motion, and the mask of what they cover.

    Args:
        sttf: ``voxel_size``, ``downsample_rate``: the size of a cell.
        use_roi_mask: leave out, at every cell, the agents whose corrected map does not reach it.
        use_RTE: add the delays' vectors; RTE_ratio: steps of the table per frame.

    The others are those of ``v2xvit``.
    """

    def __init__(
        self,
        depth: int,
        num_blocks: int,
        cav_att_config: Mapping[str, Any],
        pwindow_att_config: Mapping[str, Any],
        feed_forward: Mapping[str, Any],
        sttf: Mapping[str, Any],
        use_roi_mask: bool = True,
        use_RTE: bool = False,
        RTE_ratio: int = 1,
    ) -> None:
        super().__init__(depth, num_blocks, cav_att_config, pwindow_att_config, feed_forward)
        self.cell = sttf["voxel_size"][0] * sttf["downsample_rate"]
        self.use_roi_mask = use_roi_mask
        self.rte = DelayEncoding(cav_att_config["dim"], RTE_ratio) if use_RTE else None

    def of_scene(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, dim, H, W) in the ego's frame as it was, to the egos' (B, H, W, dim)."""
        maps = self._with_delays(scene)
        absent = ~scene.presence.to(maps.device)
        if scene.correction is not None:
            theta = pixel_sampling(scene.correction.to(maps), self.cell, (maps.shape[-2], maps.shape[-1]))
            if self.use_roi_mask:
                covered = warp(torch.ones_like(maps[:, :1]), theta, mode="nearest", align_corners=True)[:, 0] > 0
                absent = ~scene.pad(covered)
            _, slot = scene.places
            is_ego = (slot == 0).to(maps.device)[:, None, None, None]
            maps = torch.where(is_ego, maps, warp(maps, theta, align_corners=True))
        kinds = None if scene.kind is None else scene.pad(scene.kind.to(maps.device, torch.long))
        return self(scene.pad(maps.permute(0, 2, 3, 1)), absent, kinds)[:, 0]

    def _with_delays(self, scene: SceneFeatures) -> Tensor:
        if self.rte is None or scene.delay is None:
            return scene.map
        x = self.rte(scene.map.permute(0, 2, 3, 1)[:, None], scene.delay.to(scene.map.device)[:, None])
        return x[:, 0].permute(0, 3, 1, 2)


@register("fusion", "v2xvit_moving")
class MovingV2XViT(nn.Module):
    """V2X-ViT on maps that were projected to the ego before they were encoded.

    Args:
        encoder: arguments of the encoder.
    """

    def __init__(self, encoder: Mapping[str, Any]) -> None:
        super().__init__()
        where = "model.args.transformer.encoder"
        entry = Entry("fusion", "transformer.encoder", MovingEncoder)
        self.encoder = MovingEncoder(**REGISTRY.check_arguments(entry, encoder, where))

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        return self.encoder.of_scene(scene).permute(0, 3, 1, 2).contiguous()


def _waves(dim: int) -> Tensor:
    """(STEPS, dim): sin(p w_k) in even columns, cos in odd ones, over sqrt(dim)."""
    place = torch.arange(STEPS, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * -(math.log(WAVELENGTH) / dim))
    angles = place * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim] / math.sqrt(dim)
