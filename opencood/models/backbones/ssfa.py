"""Spatial-semantic aggregation of CIA-SSD: two resolutions, weighed against each other cell by cell.

Source: spec models.md 4.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opencood.models.backbones.deblocks import norm
from opencood.registry import register

WIDTH = 128
WIDE = 256
LAYERS = 3


@register("backbone", "SSFA")
class Ssfa(nn.Module):
    """A fine and a coarse branch, the coarse one brought up twice, and their sum by softmax weights.

    Keys ``bottom_up_block_{0,1}``, ``trans_{0,1}``, ``deconv_block_{0,1}``, ``conv_{0,1}``, ``w_{0,1}``.

    Args:
        feature_num: channels that arrive.
    """

    def __init__(self, feature_num: int = WIDTH) -> None:
        super().__init__()
        self.in_channels = feature_num
        self.out_channels = WIDTH
        fine = [_conv(feature_num if i == 0 else WIDTH, WIDTH) for i in range(LAYERS)]
        coarse = [_conv(WIDTH if i == 0 else WIDE, WIDE, stride=2 if i == 0 else 1) for i in range(LAYERS)]
        # the published index of the zero padding, which the convolution does without a copy
        self.bottom_up_block_0 = nn.Sequential(nn.Identity(), *(layer for stage in fine for layer in stage))
        self.bottom_up_block_1 = nn.Sequential(*(layer for stage in coarse for layer in stage))
        self.trans_0 = _conv(WIDTH, WIDTH, size=1)
        self.trans_1 = _conv(WIDE, WIDE, size=1)
        self.deconv_block_0 = _twice_as_large(WIDE, WIDTH)
        self.deconv_block_1 = _twice_as_large(WIDE, WIDTH)
        self.conv_0 = _conv(WIDTH, WIDTH)
        self.conv_1 = _conv(WIDTH, WIDTH)
        self.w_0 = _weigher()
        self.w_1 = _weigher()

    def forward(self, x: Tensor) -> Tensor:
        """(N, feature_num, H, W), H and W even, to (N, 128, H, W)."""
        fine = self.bottom_up_block_0(x)
        coarse = self.trans_1(self.bottom_up_block_1(fine))
        detailed = self.conv_0(self.deconv_block_0(coarse) + self.trans_0(fine))
        semantic = self.conv_1(self.deconv_block_1(coarse))
        weights = torch.cat([self.w_0(detailed), self.w_1(semantic)], dim=1).softmax(dim=1)
        return detailed * weights[:, :1] + semantic * weights[:, 1:]


def _conv(in_channels: int, channels: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, norm(channels), nn.ReLU())


def _twice_as_large(in_channels: int, channels: int) -> nn.Sequential:
    resample = nn.ConvTranspose2d(in_channels, channels, 3, stride=2, padding=1, output_padding=1, bias=False)
    return nn.Sequential(resample, norm(channels), nn.ReLU())


def _weigher() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(WIDTH, 1, 1, bias=False), norm(1))
