"""U-shaped affine modulation aligner (spec models.md 2.5)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.registry import register

GROUPS = 8


class AffineRegion(nn.Module):
    """What a feature makes of the factor it is modulated with; keys ``model.{0,2,4}``."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv2d(channels, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, out_channels, H, W)."""
        return self.model(x)


class FeatureAffine(nn.Module):
    """region(feature) * conv2(r) + conv3(r), with r = ReLU(conv1(image))."""

    def __init__(self, channels: int, out_channels: int, image_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image_channels, image_channels, 1)
        self.conv2 = nn.Conv2d(image_channels, out_channels, 1)
        self.conv3 = nn.Conv2d(image_channels, out_channels, 1)
        self.arblock = AffineRegion(channels, out_channels)

    def forward(self, feature: Tensor, image: Tensor) -> Tensor:
        """Maps of one size to (N, out_channels, H, W)."""
        guide = F.relu(self.conv1(image))
        return self.arblock(feature) * self.conv2(guide) + self.conv3(guide)


@register("aligner", "fanet")
class FANet(nn.Module):
    """Down twice and up twice, every step modulated by the input at that size, through which no gradient flows.

    Raises:
        ConfigError: ``dim`` is no multiple of 8.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % GROUPS:
            raise ConfigError(f"aligner_args.args: fanet works in {GROUPS} groups, dim {dim} is no multiple.")
        self.falayer1 = FeatureAffine(dim, dim, dim)
        self.falayer2 = FeatureAffine(dim, 2 * dim, dim)
        self.falayer3 = FeatureAffine(2 * dim, 4 * dim, dim)
        self.falayer4 = FeatureAffine(4 * dim, 2 * dim, dim)
        self.falayer5 = FeatureAffine(2 * dim, dim, dim)
        self.skip_conv1 = nn.Conv2d(2 * dim, 2 * dim, 1)
        self.skip_conv2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape; H and W are multiples of 4."""
        full = x.detach()
        half = F.max_pool2d(full, 2)
        quarter = F.max_pool2d(half, 2)
        down0 = self.falayer1(x, full)
        down1 = self.falayer2(F.max_pool2d(down0, 2), half)
        down2 = self.falayer3(F.max_pool2d(down1, 2), quarter)
        up1 = self.falayer4(_twice(down2), half) + self.skip_conv1(down1)
        return self.falayer5(_twice(up1), full) + self.skip_conv2(down0)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
