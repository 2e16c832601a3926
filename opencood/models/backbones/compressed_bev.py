"""The plain backbone with an auto-encoder behind its first levels (OpenCOOD, V2V4Real; spec homogeneous.md 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from opencood.models.backbones.base_bev import BaseBEVBackbone
from opencood.models.links.autoencoder import AutoEncoder
from opencood.registry import register


@register("backbone", "CompressedBEVBackbone", ignores=("voxel_size", "anchor_number"))
class CompressedBEVBackbone(BaseBEVBackbone):
    """Level i goes on as what an auto-encoder of ``compression`` - i stages makes of it.

    Keys ``compression_modules.{i}`` besides those of the plain backbone.
    """

    def __init__(
        self,
        layer_nums: Sequence[int],
        layer_strides: Sequence[int],
        num_filters: Sequence[int],
        upsample_strides: Sequence[float] = (),
        num_upsample_filter: Sequence[int] = (),
        inplanes: int = 64,
        compression: int = 0,
    ) -> None:
        super().__init__(layer_nums, layer_strides, num_filters, upsample_strides, num_upsample_filter, inplanes)
        self.compression_modules = nn.ModuleList(
            AutoEncoder(width, max(compression - level, 0)) for level, width in enumerate(num_filters)
        )

    def levels(self, x: Tensor, first: int = 0) -> list[Tensor]:
        """Outputs of the stages from ``first`` on, there and back through their auto-encoders."""
        outputs = []
        for block, codec in list(zip(self.blocks, self.compression_modules, strict=True))[first:]:
            x = codec(block(x))
            outputs.append(x)
        return outputs
