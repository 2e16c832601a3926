"""Smaller and narrower codes: the auto-encoder of OpenCOOD (spec homogeneous.md 3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.backbones.deblocks import norm
from opencood.models.links.compressor import Codec
from opencood.registry import register


class BackwardSequential(nn.Sequential):
    """A sequence that is run from its last member to its first."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply every member."""
        for part in reversed(self):
            x = part(x)
        return x


@register("link", "autoencoder")
class AutoEncoder(Codec):
    """Every stage halves the size of the map and its channels.

    Keys ``encoder.{l}.1|2|4|5``, ``decoder.{l}.{0,1}.{0,1}``.

    Args:
        channels: of the map, divisible by 2^stages, as are its rows and columns.
        stages: how many; 0 sends the map as it is.
    """

    def __init__(self, channels: int, stages: int) -> None:
        super().__init__()
        if stages < 0 or channels % 2**stages:
            raise ConfigError(f"compression: {channels} channels cannot be halved {stages} times.")
        widths = [channels // 2**stage for stage in range(stages)]
        self.encoder = nn.Sequential(*(_narrow(width) for width in widths))
        self.decoder = BackwardSequential(*(_widen(width) for width in widths))
        self.in_channels = self.out_channels = channels


def _narrow(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Identity(),  # the published index of the zero padding, which the convolution does without a copy
        nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
        norm(width),
        nn.ReLU(),
        nn.Conv2d(width, width // 2, 3, padding=1, bias=False),
        norm(width // 2),
        nn.ReLU(),
    )


def _widen(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.ConvTranspose2d(width // 2, width, 2, stride=2, bias=False), norm(width), nn.ReLU()),
        nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), norm(width), nn.ReLU()),
    )
