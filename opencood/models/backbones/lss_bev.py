"""The map network of the homogeneous Lift-Splat-Shoot detectors (spec models.md 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from opencood.models.backbones.resnet import BasicBlock
from opencood.models.backbones.upsample import UpsampleJoin
from opencood.registry import register

WIDTHS = (64, 128, 256)


@register("backbone", "BevEncode")
class BevEncode(nn.Module):
    """A small U-net: half the size, three stages of ResNet-18, and back to the full size.

    Keys ``conv1``, ``bn1``, ``layer{1,2,3}``, ``up1.conv.*``, ``up2.{1,2,4}``.
    """

    def __init__(self, inplanes: int, bevout_feature: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = inplanes, bevout_feature
        fine, middle, coarse = WIDTHS
        self.conv1 = nn.Conv2d(inplanes, fine, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(fine)
        self.layer1 = residual_stage(fine, fine, stride=1)
        self.layer2 = residual_stage(fine, middle, stride=2)
        self.layer3 = residual_stage(middle, coarse, stride=2)
        self.up1 = UpsampleJoin(fine + coarse, coarse)
        self.up2 = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(coarse, middle, 3, padding=1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, bevout_feature, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, bevout_feature, H, W), H and W even."""
        fine = self.layer1(F.relu(self.bn1(self.conv1(x))))
        coarse = self.layer3(self.layer2(fine))
        return self.up2(self.up1(coarse, fine))


def residual_stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """A stage of ResNet-18: two blocks."""
    return nn.Sequential(BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels, 1))
