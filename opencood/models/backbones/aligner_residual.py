"""Aligners made of residual blocks: convolutions, CBAM attention, channel-last layers (spec models.md 2.5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.registry import register


class ResidualBlock(nn.Module):
    """ReLU(x + BN(conv(ReLU(BN(conv(x)))))), convolutions with bias."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(dim, dim, kernel, padding=kernel // 2)
        self.bn1 = nn.BatchNorm2d(dim)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class ResidualAligner(nn.Module):
    """Residual blocks one after the other; keys ``model.{b}.*``."""

    kernel = 1

    def __init__(self, dim: int, num_of_blocks: int, deform: bool = False) -> None:
        super().__init__()
        if deform:
            raise ConfigError("aligner_args.args: deformable convolutions are not supported; set deform to false.")
        self.model = nn.Sequential(*(ResidualBlock(dim, self.kernel) for _ in range(num_of_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        return self.model(x)


@register("aligner", "resnet1x1")
class PointwiseResidualAligner(ResidualAligner):
    """Residual blocks of 1x1 convolutions."""


@register("aligner", "resnet3x3")
class SpatialResidualAligner(ResidualAligner):
    """Residual blocks of 3x3 convolutions."""

    kernel = 3


class ChannelAttention(nn.Module):
    """A gate per channel from its mean and its maximum; keys ``fc.{0,2}``."""

    def __init__(self, dim: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(dim, dim // reduction, 1, bias=False), nn.ReLU(), nn.Conv2d(dim // reduction, dim, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to (N, dim, 1, 1)."""
        return (self.fc(x.mean((2, 3), keepdim=True)) + self.fc(x.amax((2, 3), keepdim=True))).sigmoid()


class SpatialAttention(nn.Module):
    """A gate per cell from the mean and the maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W)."""
        return self.conv1(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)).sigmoid()


class AttentionBlock(nn.Module):
    """Two 1x1 convolutions, channel gate, cell gate, around a shortcut (CBAM)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)
        self.ca = ChannelAttention(dim)
        self.sa = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y = self.ca(y) * y
        return F.relu(self.sa(y) * y + x)


@register("aligner", "cbam")
class AttentionAligner(nn.Module):
    """CBAM blocks one after the other; keys ``model.{b}.*``."""

    def __init__(self, dim: int, num_of_blocks: int) -> None:
        super().__init__()
        self.model = nn.Sequential(*(AttentionBlock(dim) for _ in range(num_of_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        return self.model(x)


class ChannelLastBlock(nn.Module):
    """x + layers(LayerNorm(x)), channels last."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        steps = [module for _ in range(layers) for module in (nn.Linear(dim, dim), nn.GELU())]
        self.model = nn.Sequential(nn.LayerNorm(dim), *steps)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, dim) to the same shape."""
        return x + self.model(x)


@register("aligner", "scaligner")
class ChannelLastAligner(nn.Module):
    """Per-cell linear layers with shortcuts; keys ``backbone.{b}.model.{k}``."""

    def __init__(self, dim: int, num_of_blocks: int, num_of_layers: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*(ChannelLastBlock(dim, num_of_layers) for _ in range(num_of_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, dim, H, W) to the same shape."""
        return self.backbone(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
