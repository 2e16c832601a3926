"""VoxelNet's region proposal network: three resolutions, brought together, then two heads (spec models.md 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opencood.models.heads.anchor import BOX_NUMBERS
from opencood.models.scene import SceneFeatures
from opencood.registry import register

WIDTH = 128
WIDE = 256
BARE_LAYERS = 5


class NormedConv(nn.Module):
    """3x3 convolution with bias, batch norm, ReLU; keys ``conv``, ``bn``."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels, H', W')."""
        return self.bn(self.conv(x)).relu()


class PlainConv(nn.Module):
    """1x1 convolution under the key ``conv``."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels, H, W)."""
        return self.conv(x)


@register("head", "rpn")
class RegionProposals(nn.Module):
    """Class logits ``psm`` and box residuals ``rm`` of every anchor, at half the resolution that arrives.

    The third block goes on with bare convolutions, as published. Keys ``block_{1,2,3}``, ``deconv_{1,2,3}.{0,1}``,
    ``score_head.conv``, ``reg_head.conv``.

    Args:
        in_channels: channels that arrive.
        anchors: anchors per cell.
    """

    def __init__(self, in_channels: int, anchors: int) -> None:
        super().__init__()
        self.block_1 = _block(in_channels, extra_layers=3)
        self.block_2 = _block(WIDTH, extra_layers=5)
        bare = (nn.Conv2d(WIDE, WIDE, 3, padding=1) for _ in range(BARE_LAYERS))
        self.block_3 = nn.Sequential(NormedConv(WIDTH, WIDE, stride=2), *bare)
        self.deconv_1 = _enlarged(WIDE, 4)
        self.deconv_2 = _enlarged(WIDTH, 2)
        self.deconv_3 = _enlarged(WIDTH, 1)
        self.score_head = PlainConv(3 * WIDE, anchors)
        self.reg_head = PlainConv(3 * WIDE, BOX_NUMBERS * anchors)

    def forward(self, scene: SceneFeatures) -> dict[str, Tensor]:
        """``psm`` (N, A, H/2, W/2) and ``rm`` (N, 7A, H/2, W/2)."""
        fine = self.block_1(scene.map)
        middle = self.block_2(fine)
        coarse = self.block_3(middle)
        joint = torch.cat([self.deconv_1(coarse), self.deconv_2(middle), self.deconv_3(fine)], dim=1)
        return {"psm": self.score_head(joint), "rm": self.reg_head(joint)}


def _block(in_channels: int, extra_layers: int) -> nn.Sequential:
    extra = (NormedConv(WIDTH, WIDTH) for _ in range(extra_layers))
    return nn.Sequential(NormedConv(in_channels, WIDTH, stride=2), *extra)


def _enlarged(in_channels: int, times: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(in_channels, WIDE, times, stride=times), nn.BatchNorm2d(WIDE))
