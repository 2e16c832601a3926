"""PIXOR's net for collaboration: agents share the map at a quarter of the size, and three levels are fused.

Source: spec homogeneous.md 4 (``pixor_intermediate``).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from opencood.models.encoders.pixor import Pixor
from opencood.registry import register

# Channels of the levels at 1/4, 1/8 and 1/16.
LEVELS = (192, 256, 384)


@register("backbone", "PixorLevels")
class PixorLevels(Pixor):
    """The same net as :class:`Pixor`, as levels: 1/4, 1/8 and 1/16 of the picture."""

    level_channels = LEVELS

    def levels(self, x: Tensor, first: int = 0) -> list[Tensor]:
        """The levels from ``first`` (0 or 1) on."""
        quarter = [self.first(x)] if first == 0 else []
        eighth = self.block4(quarter[0] if quarter else x)
        return [*quarter, eighth, self.block5(eighth)]

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """The way up, (N, 96, H / 4, W / 4)."""
        quarter, eighth, sixteenth = levels
        return self.merge(quarter, eighth, sixteenth)
