"""MPDA: collaborators' maps are brought to the ego's size and style before fusion (spec gencomm.md 1.6, 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.communication import Message
from opencood.models.links.base import Link, by_modality, joined
from opencood.models.links.degradation import Degradation
from opencood.models.links.windows import WindowGridEncoder, head, in_windows
from opencood.models.scene import SceneFeatures

REVERSAL = -9.1
WINDOW = 2  # whatever the YAML says: checkpoints were trained with it


class ResidualConvs(nn.Module):
    """x + two convolutions with batch norms; keys ``module.{0,1,3,4}``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.module = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x + self.module(x)


class Resizer(nn.Module):
    """Collaborators' maps at the ego's size and width; keys ``channel_selector, wg_att_{1,2}, res_blocks.{i}``.

    Args:
        input_channel, output_channel: channels of collaborators and ego.
        wg_att: arguments of :class:`WindowGridEncoder`.
        residual: {input_dim, depth} of the convolutions.
        used: whether maps go through it and the transformer behind it; ``rebuttal: true`` switches both off.
    """

    def __init__(
        self,
        input_channel: int,
        output_channel: int,
        wg_att: Mapping[str, Any],
        residual: Mapping[str, Any],
        used: bool = True,
    ) -> None:
        super().__init__()
        self.used = used
        self.channel_selector = nn.Conv2d(input_channel, output_channel, 1)
        self.wg_att_1 = WindowGridEncoder(**wg_att)
        self.wg_att_2 = WindowGridEncoder(**wg_att)
        self.res_blocks = nn.ModuleList(ResidualConvs(residual["input_dim"]) for _ in range(residual["depth"]))

    def forward(self, size: tuple[int, int], level: Tensor) -> Tensor:
        """Maps (N, C, h, w) to (N, C', *size)."""
        narrow = self.channel_selector(level)
        near = _resized(self.wg_att_1(narrow), size)
        refined = near
        for block in self.res_blocks:
            refined = block(refined)
        return _resized(narrow, size) + self.wg_att_2(refined + near)


class CrossAttention(nn.Module):
    """Tokens ask those of another map in the same window; keys ``to_q, to_k, to_v`` (LayerNorm, Linear), ``proj``."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, heads * dim_head)) for _ in range(3)
        )
        self.proj = nn.Linear(heads * dim_head, dim)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """Tokens (M, T, dim) of both maps to what was found (M, T, dim)."""
        named = ((self.to_q, asking), (self.to_k, asked), (self.to_v, asked))
        query, key, value = (to(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for to, x in named)
        found = F.scaled_dot_product_attention(query, key, value)
        return self.proj(found.transpose(1, 2).flatten(2))


class CrossDomainLayer(nn.Module):
    """Cross attention in windows, then in grids, with feed-forward parts in between; keys as published."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.prenorm1, self.prenorm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp_1, self.mlp_2 = (
            nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)) for _ in range(2)
        )
        self.cross_win_1 = CrossAttention(dim, heads, dim_head)
        self.cross_win_2 = CrossAttention(dim, heads, dim_head)
        self.post_norm = nn.LayerNorm(dim)

    def forward(self, ego: Tensor, asking: Tensor) -> Tensor:
        """Maps (N, H, W, C) of egos and collaborators to the collaborators' (N, H, W, C)."""
        x = asking + in_windows(self.cross_win_1, WINDOW, False, asking, ego)
        x = x + self.mlp_1(self.prenorm1(x))
        x = x + in_windows(self.cross_win_2, WINDOW, True, x, ego)
        x = x + self.mlp_2(self.prenorm2(x))
        return self.post_norm(x)


class CrossDomainTransformer(nn.Module):
    """Collaborators' maps in the ego's style; keys ``layers.{i}.*``, ``mlp_head.{1,2}``.

    Args:
        input_dim: channels; heads, dim_head: of the attention; depth: number of layers.
        window_size: not read; the window is always 2.
    """

    def __init__(self, input_dim: int, dim_head: int, heads: int, depth: int = 1, window_size: int = WINDOW) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossDomainLayer(input_dim, heads, dim_head) for _ in range(depth))
        self.mlp_head = head(input_dim)

    def forward(self, ego: Tensor, level: Tensor) -> Tensor:
        """Maps (N, C, H, W) of egos and collaborators to the collaborators' (N, C, H, W); H and W are even."""
        own, x = ego.permute(0, 2, 3, 1), level.permute(0, 2, 3, 1)
        for layer in self.layers:
            x = layer(own, x)
        for step in self.mlp_head.values():
            x = step(x)
        return x.permute(0, 3, 1, 2).contiguous()


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round and scaled."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return REVERSAL * grad


class DomainClassifier(nn.Module):
    """Guesses per cell whether a map is an ego's, behind a reversed gradient; keys ``conv1_da, conv2_da``."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv1_da, self.conv2_da = nn.Conv2d(in_channels, 512, 1), nn.Conv2d(512, 1, 1)
        for layer in (self.conv1_da, self.conv2_da):
            nn.init.normal_(layer.weight, std=0.001)
            layer.bias = nn.Parameter(torch.zeros(layer.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, 1, H, W)."""
        return self.conv2_da(F.relu(self.conv1_da(_Reversed.apply(x))))


@dataclass
class MpdaParts:
    """The parts of the detector that the link is made of; ``widen`` by modality."""

    resizer: Resizer
    transformer: CrossDomainTransformer
    classifier: DomainClassifier
    widen: Mapping[str, nn.Module]
    degradation: Degradation | None = None


class MpdaLink(Link):
    """Sends maps as they are; at the ego they are resized and brought to its style.

    Extra outputs: ``da_feature`` (N, 1, H, W), the classifier's logits, and ``record_len``.
    """

    def __init__(self, parts: MpdaParts) -> None:
        super().__init__()
        self._parts = parts

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """The map (n, C, H, W)."""
        return Message({"map": own.map})

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """The egos' maps as they are, the collaborators' brought to them; (N, C, H, W)."""
        parts, level = self._parts, joined(messages, "map")
        scenes, slots = target.places
        if parts.degradation is not None:
            level = parts.degradation(level, slots)
        rows = (slots > 0).nonzero().flatten().to(level.device)
        own = ego.map[scenes.to(level.device)]
        adapted = own
        if len(rows):
            adapted = own.index_copy(0, rows, self._adapted(own[rows], level[rows]))
        logits = parts.classifier(adapted)
        record_len = torch.tensor(target.record_len, device=level.device)
        return target.with_maps(self._widened(adapted, target), da_feature=logits, record_len=record_len)

    def _adapted(self, own: Tensor, level: Tensor) -> Tensor:
        if not self._parts.resizer.used:
            return level
        size = (own.shape[-2], own.shape[-1])
        return self._parts.transformer(own, self._parts.resizer(size, level))

    def _widened(self, level: Tensor, target: SceneFeatures) -> Tensor:
        """Maps at the resolution before ``spatial_shrinker``, each by its own type's layer."""
        if not self._parts.widen:
            return level
        return by_modality(self._parts.widen, level, target.modality)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)
