"""The encoder of agents whose picture from above is the map (PIXOR's cells)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from opencood.models.encoders.base import Encoded


class BevPicture(nn.Module):
    """Hands on ``bev_input`` (N, channels, H, W) as the agents' map.

    Args:
        channels: of the picture.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, inputs: Mapping[str, Tensor], agents: int | None = None) -> Encoded:
        """The picture itself."""
        return Encoded(inputs["bev_input"], {})
