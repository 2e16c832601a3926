"""EfficientNet-B0 (Tan and Le, 2019) as a feature pyramid, with the key names of the common PyTorch port.

Source: spec models.md 1.3. Keys ``_conv_stem``, ``_bn0``, ``_blocks.{i}.*``, ``_conv_head``, ``_bn1``, ``_fc``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM_WIDTH, HEAD_WIDTH, CLASSES = 32, 1280, 1000
SQUEEZE = 4


class Stage(NamedTuple):
    """Blocks of one width; the first has the stride."""

    expansion: int
    kernel: int
    stride: int
    width: int
    blocks: int


# Parts behind the last feature map.
NOT_RUN = ("_conv_head.", "_bn1.", "_fc.")
STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
# Widths of the last maps at 1/8, 1/16 and 1/32 of the picture.
TAPPED_WIDTHS = (40, 112, 320)


class SamePaddedConv(nn.Conv2d):
    """Convolution that halves even sizes exactly at stride 2, padding one cell less before than after.

    That is the "same" padding of a 224 x 224 picture, with which the published weights were trained.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, groups=groups, bias=False)
        total = kernel - stride
        self.margin = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        return super().forward(F.pad(x, self.margin) if any(self.margin) else x)


class InvertedBottleneck(nn.Module):
    """Widen, convolve each channel by itself, weigh the channels, narrow; around a shortcut where the shape allows.

    ``drop_connect`` is the share of samples whose branch is left out in training.
    """

    def __init__(self, in_channels: int, stage: Stage, stride: int, drop_connect: float) -> None:
        super().__init__()
        wide, squeezed = in_channels * stage.expansion, in_channels // SQUEEZE
        self.drop_connect = drop_connect
        self.has_shortcut = stride == 1 and in_channels == stage.width
        if stage.expansion != 1:
            self._expand_conv = SamePaddedConv(in_channels, wide, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SamePaddedConv(wide, wide, stage.kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._se_reduce = nn.Conv2d(wide, squeezed, 1)
        self._se_expand = nn.Conv2d(squeezed, wide, 1)
        self._project_conv = SamePaddedConv(wide, stage.width, 1)
        self._bn2 = _norm(stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, width, H / stride, W / stride)."""
        y = F.silu(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = F.silu(self._bn1(self._depthwise_conv(y)))
        weights = self._se_expand(F.silu(self._se_reduce(F.adaptive_avg_pool2d(y, 1))))
        y = self._bn2(self._project_conv(y * torch.sigmoid(weights)))
        return x + self._dropped(y) if self.has_shortcut else y

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or not self.drop_connect:
            return branch
        kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= self.drop_connect
        return branch * kept / (1 - self.drop_connect)


class EfficientNet(nn.Module):
    """The network up to its last feature map; the classifier keeps its place in checkpoints but is not run.

    ``drop_connect`` is how often a block is left out in training, reached linearly from the first block to the last.
    """

    def __init__(self, drop_connect: float) -> None:
        super().__init__()
        self._conv_stem = SamePaddedConv(3, STEM_WIDTH, 3, stride=2)
        self._bn0 = _norm(STEM_WIDTH)
        self._blocks = nn.ModuleList(_blocks(drop_connect))
        self._conv_head = SamePaddedConv(STAGES[-1].width, HEAD_WIDTH, 1)
        self._bn1 = _norm(HEAD_WIDTH)
        self._fc = nn.Linear(HEAD_WIDTH, CLASSES)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Pictures (N, 3, h, w) to maps of 40, 112 and 320 channels at 1/8, 1/16 and 1/32."""
        x = F.silu(self._bn0(self._conv_stem(pictures)))
        last_of_width: dict[int, Tensor] = {}
        for block in self._blocks:
            x = block(x)
            last_of_width[x.shape[1]] = x
        return [last_of_width[width] for width in TAPPED_WIDTHS]


def _blocks(drop_connect: float) -> list[nn.Module]:
    total, width = sum(stage.blocks for stage in STAGES), STEM_WIDTH
    blocks: list[nn.Module] = []
    for stage in STAGES:
        for number in range(stage.blocks):
            stride = stage.stride if number == 0 else 1
            blocks.append(InvertedBottleneck(width, stage, stride, drop_connect * len(blocks) / total))
            width = stage.width
    return blocks


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
