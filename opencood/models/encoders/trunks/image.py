"""From pictures to image features and depth bins: an image trunk with two heads (spec models.md 1.3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.backbones.bottleneck import bottlenecks
from opencood.models.backbones.resnet import BasicBlock
from opencood.models.backbones.upsample import UpsampleJoin
from opencood.models.encoders.trunks.efficientnet import NOT_RUN, TAPPED_WIDTHS, EfficientNet
from opencood.models.encoders.trunks.weights import load_trunk
from opencood.registry import register

WIDTH = 512


class ImageEncoder(nn.Module):
    """A trunk that gives ``width`` channels, and 1x1 heads for the depth bins and the features of every image cell."""

    width = WIDTH
    depth_head: nn.Conv2d | None
    image_head: nn.Conv2d

    def add_heads(self, features: int, depths: int | None) -> None:
        """Add the heads, last in the state dict; without ``depths`` the depth is known and not predicted."""
        self.depth_head = None if depths is None else nn.Conv2d(self.width, depths, 1)
        self.image_head = nn.Conv2d(self.width, features, 1)

    def trunk_features(self, pictures: Tensor) -> Tensor:
        """Pictures (N, 3, h, w) to (N, width, h / stride, w / stride)."""
        raise NotImplementedError

    def forward(self, pictures: Tensor) -> tuple[Tensor | None, Tensor]:
        """Pictures (N, 3, h, w) to depth logits (N, D, h', w') or None, and features (N, C, h', w')."""
        features = self.trunk_features(pictures)
        logits = None if self.depth_head is None else self.depth_head(features)
        return logits, self.image_head(features)


@register("camera_encoder", "EfficientNet")
class EfficientNetImage(ImageEncoder):
    """EfficientNet-B0 whose coarse maps are joined to the finer ones, at 1/8 or 1/16 of the picture."""

    def __init__(
        self, downsample: int, features: int, depths: int | None, drop_connect: float, trunk_weights: str | None
    ) -> None:
        super().__init__()
        if downsample not in (8, 16):
            raise ConfigError(f"EfficientNet: img_downsample must be 8 or 16, not {downsample}.")
        self.trunk = EfficientNet(drop_connect)
        load_trunk(self.trunk, trunk_weights, unused=NOT_RUN)
        fine, middle, coarse = TAPPED_WIDTHS
        self.up1 = UpsampleJoin(middle + coarse, WIDTH)
        self.up2 = UpsampleJoin(fine + WIDTH, WIDTH) if downsample == 8 else None
        self.add_heads(features, depths)

    def trunk_features(self, pictures: Tensor) -> Tensor:
        """See :class:`ImageEncoder`."""
        fine, middle, coarse = self.trunk(pictures)
        joined = self.up1(coarse, middle)
        return joined if self.up2 is None else self.up2(joined, fine)


@register("camera_encoder", "Resnet101")
class ResNetImage(ImageEncoder):
    """The first two groups of ResNet-101 (He et al., 2015) in torchvision's layout: 1/8 of the picture.

    Nothing is dropped in training, so ``drop_connect`` says nothing here.
    """

    def __init__(
        self, downsample: int, features: int, depths: int | None, drop_connect: float, trunk_weights: str | None
    ) -> None:
        super().__init__()
        if downsample != 8:
            raise ConfigError(f"Resnet101: img_downsample must be 8, not {downsample}.")
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, count=3, stride=1)
        self.layer2 = bottlenecks(256, 128, count=4, stride=2)
        load_trunk(self, trunk_weights)
        self.add_heads(features, depths)

    def trunk_features(self, pictures: Tensor) -> Tensor:
        """See :class:`ImageEncoder`."""
        x = F.relu(self.bn1(self.conv1(pictures)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        return self.layer2(self.layer1(x))


@register("camera_encoder", "SmallResnet")
class SmallResNetImage(ImageEncoder):
    """Ours: a thin residual trunk of 0.7 million weights that trains on a CPU, at 1/8 of the picture.

    Nothing is dropped in training, so ``drop_connect`` says nothing here.
    """

    width = 64

    def __init__(
        self, downsample: int, features: int, depths: int | None, drop_connect: float, trunk_weights: str | None
    ) -> None:
        super().__init__()
        if downsample != 8:
            raise ConfigError(f"SmallResnet: img_downsample must be 8, not {downsample}.")
        self.conv1 = nn.Conv2d(3, 24, 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = BasicBlock(24, 32, stride=2)
        self.layer2 = nn.Sequential(BasicBlock(32, 64, stride=2), BasicBlock(64, 64, stride=1))
        self.layer3 = BasicBlock(64, 128, stride=2)
        self.up = UpsampleJoin(64 + 128, self.width)
        load_trunk(self, trunk_weights)
        self.add_heads(features, depths)

    def trunk_features(self, pictures: Tensor) -> Tensor:
        """See :class:`ImageEncoder`."""
        fine = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(pictures)))))
        return self.up(self.layer3(fine), fine)
