"""The bottleneck of the original residual networks, shared by the image trunk and PIXOR (spec models.md 1.3, 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4


class ExpandingBottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, around a shortcut.

    Without ``use_bn`` the convolutions of the branch have biases and nothing is normalised, but for the shortcut.
    Keys ``conv1..3``, ``bn1..3`` and, where the shape changes, ``downsample.0|1``.
    """

    def __init__(self, in_channels: int, planes: int, stride: int = 1, use_bn: bool = True) -> None:
        super().__init__()
        wide = EXPANSION * planes

        def norm(width: int) -> nn.Module:
            return nn.BatchNorm2d(width) if use_bn else nn.Identity()

        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=not use_bn)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=not use_bn)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, wide, 1, bias=not use_bn)
        self.bn3 = norm(wide)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != wide:
            shortcut = nn.Conv2d(in_channels, wide, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 4 * planes, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def bottlenecks(in_channels: int, planes: int, count: int, stride: int, use_bn: bool = True) -> nn.Sequential:
    """``count`` bottlenecks in a row, of which the first has the stride."""
    first = ExpandingBottleneck(in_channels, planes, stride, use_bn)
    rest = (ExpandingBottleneck(EXPANSION * planes, planes, use_bn=use_bn) for _ in range(count - 1))
    return nn.Sequential(first, *rest)
