"""Convolutions that bring a fused map to the heads, and HM-ViT's decoder with one set per type (spec hmvit.md 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.heads.anchor import box_head, class_head, direction_head
from opencood.models.scene import SceneFeatures
from opencood.registry import register

LAYER = 6  # entries of the published sequence per layer
# What the types are called in the state dict; the first two are camera and LiDAR.
TYPES = ("camera", "lidar", "third", "fourth")
DIRECTION_BINS = 2
OUTPUTS = ("cls", "reg", "dir")


class ConvDecoder(nn.Module):
    """Pairs of 3x3 convolutions with batch norm and ReLU, from the last width to the first.

    Keys ``decoder.{6 l + 0|1|3|4}``.

    Args:
        input_dim: channels that arrive.
        num_ch_dec: width of every layer; the last one is run first.
        num_layer: how many there are.
    """

    def __init__(self, input_dim: int, num_ch_dec: Sequence[int], num_layer: int) -> None:
        super().__init__()
        if len(num_ch_dec) != num_layer:
            raise ConfigError(f"decoder: num_layer {num_layer} needs as many widths in num_ch_dec, not {num_ch_dec}.")
        widths = [input_dim, *reversed(num_ch_dec)]
        layers = [_layer(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        self.decoder = nn.Sequential(*(part for layer in layers for part in layer))
        self.in_channels, self.out_channels = input_dim, widths[-1]

    def forward(self, x: Tensor, upsample: bool = False) -> Tensor:
        """(N, C, H, W) to (N, num_ch_dec[0], H', W'); with ``upsample`` each layer doubles the map."""
        for start in range(0, len(self.decoder), LAYER):
            x = self.decoder[start : start + LAYER // 2](x)
            x = F.interpolate(x, scale_factor=2, mode="nearest") if upsample else x
            x = self.decoder[start + LAYER // 2 : start + LAYER](x)
        return x


@register("head", "hetero_decoder")
class HeteroDecoder(nn.Module):
    """A decoder and three heads per type; the type of a scene's ego decides.

    Args:
        input_dim, num_layer, num_ch_dec: of the decoders.
        anchor_number: anchors per cell.
        num_types: 2 to 4.
    """

    def __init__(
        self, input_dim: int, num_layer: int, num_ch_dec: Sequence[int], anchor_number: int, num_types: int = 2
    ) -> None:
        super().__init__()
        if not 1 <= num_types <= len(TYPES):
            raise ConfigError(f"hetero_decoder.num_types: 1 to {len(TYPES)} types have names, not {num_types}.")
        self.in_channels = input_dim
        self.types = TYPES[:num_types]
        first, further = self.types[:2], self.types[2:]
        for name in first:
            self.add_module(f"{name}_decoder", ConvDecoder(input_dim, num_ch_dec, num_layer))
        for name in further:
            self.add_module(f"{name}_decoder", ConvDecoder(input_dim, num_ch_dec, num_layer))
            self._add_heads(name, num_ch_dec[0], anchor_number)
        for name in first:
            self._add_heads(name, num_ch_dec[0], anchor_number)

    def _add_heads(self, name: str, width: int, anchors: int) -> None:
        self.add_module(f"{name}_cls_head", class_head(width, anchors))
        self.add_module(f"{name}_reg_head", box_head(width, anchors))
        self.add_module(f"{name}_dir_head", direction_head(width, anchors, DIRECTION_BINS))

    def forward(self, scene: SceneFeatures) -> dict[str, Tensor]:
        """``cls_preds``, ``reg_preds``, ``dir_preds`` of the fused scenes, whose ``kind`` is that of their egos."""
        if scene.kind is None:
            raise ValueError("this scene does not tell the types of its egos")
        return {f"{name}_preds": value for name, value in self.decode(scene.map, scene.kind.tolist()).items()}

    def decode(self, x: Tensor, kinds: Sequence[int], upsample: bool = False) -> dict[str, Tensor]:
        """Maps (B, C, H, W) of egos of the given types to ``cls``, ``reg``, ``dir``."""
        order, parts = [], []
        for kind in sorted(set(kinds)):
            rows = [row for row, own in enumerate(kinds) if own == kind]
            level = self.get_submodule(f"{self.types[kind]}_decoder")(x[rows], upsample)
            parts.append([self.get_submodule(f"{self.types[kind]}_{name}_head")(level) for name in OUTPUTS])
            order += rows
        back = torch.tensor(order, device=x.device).argsort()
        return {name: torch.cat(maps)[back] for name, maps in zip(OUTPUTS, zip(*parts, strict=True), strict=True)}


def _layer(in_channels: int, channels: int) -> list[nn.Module]:
    first = [nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return [*first, nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
