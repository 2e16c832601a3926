"""The plain convolutional backbone of PointPillars (spec models.md 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from opencood.models.backbones.deblocks import decode, make_deblocks, norm
from opencood.models.backbones.levels import check_lists
from opencood.registry import register


@register(
    "backbone",
    "BaseBEVBackbone",
    "base_bev_backbone",
    ignores=("resnet", "is_resnet", "compression", "voxel_size", "anchor_number"),
)
class BaseBEVBackbone(nn.Module):
    """Stages of 3x3 convolutions, each at its own stride, resampled to one size and concatenated.

    Keys ``blocks.{i}.{k}`` (a flat sequence that starts with the zero padding) and ``deblocks.{i}.{0,1}``.
    """

    def __init__(
        self,
        layer_nums: Sequence[int],
        layer_strides: Sequence[int],
        num_filters: Sequence[int],
        upsample_strides: Sequence[float] = (),
        num_upsample_filter: Sequence[int] = (),
        inplanes: int = 64,
    ) -> None:
        super().__init__()
        check_lists(layer_nums, layer_strides, num_filters)
        self.in_channels = inplanes
        widths = [inplanes, *num_filters]
        self.blocks = nn.ModuleList(
            _stage(*sizes) for sizes in zip(widths[:-1], num_filters, layer_strides, layer_nums, strict=True)
        )
        self.deblocks, self.out_channels = make_deblocks(num_filters, upsample_strides, num_upsample_filter)
        self.level_channels = list(num_filters)

    def levels(self, x: Tensor, first: int = 0) -> list[Tensor]:
        """Outputs of the stages from ``first`` on, each computed from the one before."""
        outputs = []
        for block in self.blocks[first:]:
            x = block(x)
            outputs.append(x)
        return outputs

    def decode(self, levels: Sequence[Tensor]) -> Tensor:
        """All levels resampled and concatenated (N, C, H, W)."""
        return decode(self.deblocks, levels)

    def go_on(self, level: Tensor) -> Tensor:
        """From level 0 to (N, out_channels, H', W')."""
        return self.decode([level, *self.levels(level, first=1)])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out_channels, H', W')."""
        return self.decode(self.levels(x))


def _stage(in_channels: int, channels: int, stride: int, extra_layers: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Identity(),  # the published index of the zero padding, which the convolution does without a copy
        nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
        norm(channels),
        nn.ReLU(),
    ]
    for _ in range(extra_layers):
        layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm(channels), nn.ReLU()]
    return nn.Sequential(*layers)
