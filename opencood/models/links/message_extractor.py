"""GenComm's message: two channels that say where an agent sees something (spec gencomm.md 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opencood.models.backbones.deformable import DeformableConv2d

HIDDEN = 64
TAPS = 9


class SpatialExtractor(nn.Module):
    """Deformable convolution, a gate per channel, two 1x1 convolutions; keys ``offset1, dcn1, attn, fuse``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.offset1 = nn.Conv2d(in_channels, 2 * TAPS, 3, padding=1)
        self.dcn1 = DeformableConv2d(in_channels, HIDDEN)
        self.fuse = nn.Sequential(nn.Conv2d(HIDDEN, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, out_channels, 1))
        self.attn = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(HIDDEN, HIDDEN // 2, 1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN // 2, HIDDEN, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H, W)."""
        seen = self.dcn1(x, self.offset1(x))
        return self.fuse(seen * self.attn(seen))


class MessageExtractor(nn.Module):
    """What an agent sends besides nothing else; keys ``bev_extractor.*``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bev_extractor = SpatialExtractor(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the message (N, out_channels, H, W)."""
        return self.bev_extractor(x)


class MessageBranch(nn.Module):
    """The end of an agent's chain: its map, and the message made of it, both fitted to the scene.

    A camera's message is made before its map is cropped or padded: afterwards the gate would average the padding.
    Keys are those of the extractor.
    """

    def __init__(self, extractor: MessageExtractor, fit: nn.Module | None) -> None:
        super().__init__()
        self.bev_extractor = extractor.bev_extractor
        self.fit = nn.Identity() if fit is None else fit

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the map (N, C, H', W') and the message (N, channels, H', W')."""
        both = self.fit(torch.cat([x, self.bev_extractor(x)], dim=1))
        channels = x.shape[1]
        return both[:, :channels], both[:, channels:]
