"""Sending fewer channels (spec models.md 2.4)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from opencood.communication import Message
from opencood.errors import ConfigError
from opencood.models.backbones.deblocks import norm
from opencood.models.links.base import Link, joined
from opencood.models.scene import SceneFeatures
from opencood.registry import register


class Codec(Link):
    """Sends what ``encoder`` makes of the map; ``decoder`` makes a map of it again. Subclasses own both.

    Attributes:
        in_channels, out_channels: of the map before and after.
    """

    encoder: nn.Module
    decoder: nn.Module
    in_channels: int
    out_channels: int

    def send(self, own: SceneFeatures, request: Message | None = None) -> Message:
        """The code (n, ...)."""
        return Message({"map": self.encoder(own.map)})

    def receive(self, messages: Sequence[Message], ego: SceneFeatures, target: SceneFeatures) -> SceneFeatures:
        """The decoded maps (N, C, H, W)."""
        return target.with_maps(self.decoder(joined(messages, "map")))

    def forward(self, x: Tensor) -> Tensor:
        """There and back, (N, C, H, W)."""
        return self.decoder(self.encoder(x))


@register("link", "naive_compressor", "compressor")
class NaiveCompressor(Codec):
    """Narrows the map at the sender and widens it at the receiver; keys ``encoder.{0,1}``, ``decoder.{0,1,3,4}``.

    Args:
        input_dim: channels of the map.
        compress_ratio: how many times fewer channels are sent.
    """

    def __init__(self, input_dim: int, compress_ratio: int) -> None:
        super().__init__()
        if not 1 <= compress_ratio <= input_dim:
            raise ConfigError(f"compressor: compress_ratio {compress_ratio} does not fit {input_dim} channels.")
        narrow = input_dim // compress_ratio
        self.encoder = nn.Sequential(nn.Conv2d(input_dim, narrow, 3, padding=1), norm(narrow), nn.ReLU())
        self.decoder = nn.Sequential(
            nn.Conv2d(narrow, input_dim, 3, padding=1),
            norm(input_dim),
            nn.ReLU(),
            nn.Conv2d(input_dim, input_dim, 3, padding=1),
            norm(input_dim),
            nn.ReLU(),
        )
        self.in_channels = self.out_channels = input_dim
