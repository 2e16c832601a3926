"""Maps of the ground instead of boxes: STAMP's segmentation heads (spec homogeneous.md 5)."""

from __future__ import annotations

from torch import Tensor, nn

from opencood.errors import ConfigError, nearest
from opencood.models.heads.conv_decoder import ConvDecoder
from opencood.models.scene import SceneFeatures

TARGETS = ("static", "dynamic", "both")


class ClassMaps(nn.Module):
    """One 3x3 convolution for what stands still (roads, lanes), one for what moves.

    Args:
        width: channels that arrive.
        target: ``static`` has one head; ``dynamic`` and ``both`` have two, as published.
        dynamic_classes, static_classes: classes of each map, background included.

    Raises:
        ConfigError: another target.
    """

    def __init__(self, width: int, target: str, dynamic_classes: int, static_classes: int) -> None:
        super().__init__()
        if target not in TARGETS:
            raise ConfigError(f"target: '{target}' is none of {', '.join(TARGETS)}.{nearest(target, TARGETS)}")
        self.target = target
        if target != "static":
            self.dynamic_head = nn.Conv2d(width, dynamic_classes, 3, padding=1)
        self.static_head = nn.Conv2d(width, static_classes, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) to logits ``dynamic_seg`` and ``static_seg`` (B, classes, H, W).

        The map that is not asked for is zeros of the other's shape, as published.
        """
        if self.target == "static":
            static = self.static_head(x)
            return {"dynamic_seg": static.new_zeros(static.shape), "static_seg": static}
        dynamic = self.dynamic_head(x)
        static = self.static_head(x) if self.target == "both" else dynamic.new_zeros(dynamic.shape)
        return {"dynamic_seg": dynamic, "static_seg": static}


class SegmentationHead(nn.Sequential):
    """Class maps, perhaps behind a decoder whose layers double the map; keys ``0.*`` and ``1.*``.

    Args:
        maps: the last step.
        decoder: the first step; None for none.
    """

    def __init__(self, maps: ClassMaps, decoder: ConvDecoder | None = None) -> None:
        super().__init__(*(part for part in (decoder, maps) if part is not None))

    def forward(self, scene: SceneFeatures) -> dict[str, Tensor]:
        """The class maps of each fused scene."""
        *decoder, maps = self
        level = scene.map
        for part in decoder:
            level = part(level, upsample=True)
        return maps(level)
