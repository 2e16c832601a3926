"""V2VNet as OpenCOOD, V2V4Real and V2X-Real run it: warps in pixels, masks by the nearest cell (homogeneous.md 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opencood.errors import ConfigError
from opencood.geometry.warp import pixel_sampling, warp
from opencood.models.fusion.v2vnet import Pairs, V2VNetFusion, hearing_pairs
from opencood.models.scene import SceneFeatures
from opencood.registry import register


@register("fusion", "v2vnet_pixel")
class PixelV2VNet(V2VNetFusion):
    """V2VNet whose maps turn about their centre and whose masks, as published, about their first cell.

    Args:
        voxel_size: x, y, z in metres; downsample_rate: voxels that make a cell of the map.
        about_centre: whether maps turn about their centre (V2X-Real's do not).
        masks_about_centre: whether masks do; False is published.

    The others are those of ``v2vnet``.

    Raises:
        ConfigError: several GRU layers, which the published network cannot have.
    """

    def __init__(
        self,
        in_channels: int,
        num_iteration: int,
        conv_gru: Mapping[str, Any],
        voxel_size: Sequence[float],
        downsample_rate: float,
        gru_flag: bool = True,
        agg_operator: str = "avg",
        use_temporal_encoding: bool | None = None,
        about_centre: bool = True,
        masks_about_centre: bool = False,
    ) -> None:
        if conv_gru["num_layers"] != 1:
            raise ConfigError(f"v2vfusion.conv_gru.num_layers: 1 is the only depth, not {conv_gru['num_layers']}.")
        super().__init__(in_channels, num_iteration, conv_gru, gru_flag, agg_operator, use_temporal_encoding)
        self.cell = voxel_size[0] * downsample_rate
        self.about_centre = about_centre
        self.masks_about_centre = masks_about_centre

    def pairs(self, scene: SceneFeatures, like: Tensor) -> Pairs:
        """The matrix from sender to receiver carries the sender's map along."""
        receiver, sender, matrices = hearing_pairs(scene, towards_receiver=True)
        size = (like.shape[-2], like.shape[-1])
        matrices = matrices.to(like)
        theta = pixel_sampling(matrices, self.cell, size, self.about_centre)
        of_masks = pixel_sampling(matrices, self.cell, size, self.masks_about_centre)
        ones = like.new_ones(len(sender), 1, *size)
        seen = warp(ones, of_masks, mode="nearest", align_corners=True)
        return Pairs(receiver, sender, theta, seen, align_corners=True)
