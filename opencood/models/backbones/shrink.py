"""The neck between a backbone and what follows (spec models.md 2.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.registry import register


class DoubleConv(nn.Module):
    """A convolution and a 3x3 convolution, both with bias and ReLU, without normalisation."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=padding),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels, H', W')."""
        return self.double_conv(x)


@register("aligner", "downsample", ignores=("use",))
class DownsampleConv(nn.Module):
    """Double convolutions one after the other; keys ``layers.{j}.double_conv.{0,2}``.

    Args:
        kernal_size, stride, padding, dim: one value per stage (``kernal_size`` is the published spelling).
        input_dim: channels that arrive.
    """

    def __init__(
        self,
        kernal_size: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dim: Sequence[int],
        input_dim: int,
    ) -> None:
        super().__init__()
        if not len(kernal_size) == len(stride) == len(padding) == len(dim) > 0:
            raise ConfigError("shrink_header: kernal_size, stride, padding and dim need one value per stage each.")
        widths = [input_dim, *dim]
        self.layers = nn.ModuleList(
            DoubleConv(*sizes) for sizes in zip(widths[:-1], dim, kernal_size, stride, padding, strict=True)
        )
        self.in_channels = input_dim
        self.out_channels = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_dim, H, W) to (N, dim[-1], H', W')."""
        for layer in self.layers:
            x = layer(x)
        return x
