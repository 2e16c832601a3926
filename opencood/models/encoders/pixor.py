"""PIXOR encoder (Yang et al., 2018): an occupancy picture from above to a map at a quarter of its size.

Source: spec models.md 4.2. Keys ``conv1|2``, ``bn1|2``, ``block{2..5}.{b}.*``, ``latlayer{1..3}``, ``deconv1|2``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.backbones.bottleneck import bottlenecks
from opencood.models.encoders.base import Encoded
from opencood.registry import register

STEM, OUT = 32, 96


@register("encoder", "pixor", ignores=("decode", "anchor_number"))
class Pixor(nn.Module):
    """Four groups of bottlenecks at 1/2 to 1/16, and back up to 1/4 over lateral connections.

    Args:
        geometry_param: what ``load_bev_params`` derives; ``input_shape`` [length, width, channels].
        use_bn: batch norms instead of biases.

    Raises:
        ConfigError: ``geometry_param.input_shape`` is missing.
    """

    def __init__(self, geometry_param: Mapping[str, Any] | None = None, use_bn: bool = True) -> None:
        super().__init__()
        if not geometry_param or "input_shape" not in geometry_param:
            raise ConfigError("pixor: geometry_param.input_shape is missing; use yaml_parser: load_bev_params.")
        self.conv1 = nn.Conv2d(geometry_param["input_shape"][-1], STEM, 3, padding=1, bias=not use_bn)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, padding=1, bias=not use_bn)
        self.bn1 = nn.BatchNorm2d(STEM) if use_bn else nn.Identity()
        self.bn2 = nn.BatchNorm2d(STEM) if use_bn else nn.Identity()
        self.block2 = bottlenecks(STEM, 24, count=3, stride=2, use_bn=use_bn)
        self.block3 = bottlenecks(96, 48, count=6, stride=2, use_bn=use_bn)
        self.block4 = bottlenecks(192, 64, count=6, stride=2, use_bn=use_bn)
        self.block5 = bottlenecks(256, 96, count=3, stride=2, use_bn=use_bn)
        self.latlayer1 = nn.Conv2d(384, 196, 1)
        self.latlayer2 = nn.Conv2d(256, 128, 1)
        self.latlayer3 = nn.Conv2d(192, OUT, 1)
        self.deconv1 = nn.ConvTranspose2d(196, 128, 3, stride=2, padding=1)
        self.deconv2 = nn.ConvTranspose2d(128, OUT, 3, stride=2, padding=1)
        self.out_channels = OUT

    def forward(self, inputs: Mapping[str, Tensor], agents: int | None = None) -> Encoded:
        """Map (N, 96, H / 4, W / 4) of ``bev_input`` (N, channels, H, W)."""
        quarter = self.first(inputs["bev_input"])
        eighth = self.block4(quarter)
        sixteenth = self.block5(eighth)
        return Encoded(self.merge(quarter, eighth, sixteenth), {})

    def first(self, picture: Tensor) -> Tensor:
        """(N, channels, H, W) to the map at a quarter of its size, (N, 192, H / 4, W / 4)."""
        x = F.relu(self.bn1(self.conv1(picture)))
        return self.block3(self.block2(F.relu(self.bn2(self.conv2(x)))))

    def merge(self, quarter: Tensor, eighth: Tensor, sixteenth: Tensor) -> Tensor:
        """The way up: each coarser map is brought to the size of the finer one, odd sizes included, and added."""
        up = self.deconv1(self.latlayer1(sixteenth), output_size=eighth.shape[-2:]) + self.latlayer2(eighth)
        return self.deconv2(up, output_size=quarter.shape[-2:]) + self.latlayer3(quarter)
