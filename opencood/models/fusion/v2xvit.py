"""V2X-ViT: a transformer over agents and cells (spec models.md 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.fusion.transformer import FeedForward, PreNorm
from opencood.models.fusion.v2xvit_attention import AgentAttention, HeteroAgentAttention, PyramidWindowAttention
from opencood.models.scene import SceneFeatures
from opencood.registry import REGISTRY, Entry, register

# Speed, delay and infrastructure, which the encoder once took as three more channels.
PRIOR_CHANNELS = 3


class FusionBlock(nn.Module):
    """Agent attention and window attention, each a residual branch; keys ``layers.{b}.{0,1}``."""

    def __init__(self, blocks: int, agents: Mapping[str, Any], windows: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([PreNorm(agents["dim"], _agents(agents)), PreNorm(windows["dim"], _windows(windows))])
            for _ in range(blocks)
        )

    def forward(self, x: Tensor, absent: Tensor, kinds: Tensor | None) -> Tensor:
        """Maps (B, L, H, W, dim) to the same shape."""
        for layer in self.layers:
            agent_attention, window_attention = layer.children()
            x = x + agent_attention(x, absent, kinds)
            x = x + window_attention(x)
        return x


class V2XTEncoder(nn.Module):
    """Blocks and feed-forward layers; ``prior_feed`` is not run but part of every checkpoint."""

    def __init__(
        self,
        depth: int,
        num_blocks: int,
        cav_att_config: Mapping[str, Any],
        pwindow_att_config: Mapping[str, Any],
        feed_forward: Mapping[str, Any],
    ) -> None:
        super().__init__()
        dim = cav_att_config["dim"]
        self.unit = math.lcm(*pwindow_att_config["window_size"])
        self.prior_feed = nn.Linear(dim + PRIOR_CHANNELS, dim)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    FusionBlock(num_blocks, cav_att_config, pwindow_att_config),
                    PreNorm(dim, FeedForward(dim, feed_forward["mlp_dim"], feed_forward.get("dropout", 0.0))),
                ]
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor, absent: Tensor, kinds: Tensor | None) -> Tensor:
        """Maps (B, L, H, W, dim) to the same shape; maps that windows do not divide are filled up with zeros.

        Args:
            absent: (B, L), or (B, L, H, W) by cell.
        """
        height, width = x.shape[2:4]
        below, right = -height % self.unit, -width % self.unit
        if below or right:
            x = F.pad(x, (0, 0, 0, right, 0, below))
            absent = F.pad(absent, (0, right, 0, below)) if absent.ndim > 2 else absent
        for layer in self.layers:
            block, feed_forward = layer.children()
            x = block(x, absent, kinds)
            x = x + feed_forward(x)
        return x[:, :, :height, :width]


class V2XTransformer(nn.Module):
    """The encoder under its published prefix."""

    def __init__(self, encoder: Mapping[str, Any]) -> None:
        super().__init__()
        ignored = ("use_roi_mask", "use_RTE", "RTE_ratio", "sttf")
        entry = Entry("fusion", "v2xvit.transformer.encoder", V2XTEncoder, frozenset(ignored))
        self.encoder = V2XTEncoder(**REGISTRY.check_arguments(entry, encoder, "v2xvit.transformer.encoder"))

    def forward(self, x: Tensor, absent: Tensor, kinds: Tensor | None) -> Tensor:
        """Maps (B, L, H, W, dim) to the egos' (B, H, W, dim)."""
        return self.encoder(x, absent, kinds)[:, 0]


@register("fusion", "v2xvit")
class V2XViTFusion(nn.Module):
    """The transformer on maps in the ego's frame; keys ``fusion_net.encoder.*``.

    The region mask and the second warp of the published configuration (``use_roi_mask``, ``sttf``) change nothing here:
    the matrices they were given are identities.

    Args:
        transformer: ``encoder`` with ``depth``, ``num_blocks``, ``cav_att_config``, ``pwindow_att_config`` and
            ``feed_forward``.
    """

    def __init__(self, transformer: Mapping[str, Any]) -> None:
        super().__init__()
        self.fusion_net = V2XTransformer(transformer["encoder"])

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) to the egos' (B, C, H, W)."""
        maps = scene.pad(scene.to_ego(scene.map)).permute(0, 1, 3, 4, 2)
        kinds = None if scene.kind is None else scene.pad(scene.kind.to(maps.device, torch.long))
        fused = self.fusion_net(maps, ~scene.presence.to(maps.device), kinds)
        return fused.permute(0, 3, 1, 2).contiguous()


def _agents(config: Mapping[str, Any]) -> nn.Module:
    attention = HeteroAgentAttention if config.get("use_hetero") else AgentAttention
    return attention(config["dim"], config["heads"], config["dim_head"], config.get("dropout", 0.0))


def _windows(config: Mapping[str, Any]) -> nn.Module:
    entry = Entry("fusion", "pwindow_att_config", PyramidWindowAttention)
    return PyramidWindowAttention(**REGISTRY.check_arguments(entry, config, "pwindow_att_config"))
