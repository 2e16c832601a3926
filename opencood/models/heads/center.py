"""CenterPoint's head: boxes as eight numbers per cell, and what they say in metres (spec models.md 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opencood.models.heads.anchor import box_head
from opencood.models.scene import SceneFeatures

BOX_NUMBERS = 8


def center_box_head(in_channels: int, anchors: int) -> nn.Conv2d:
    """1x1 convolution to the eight raw box numbers of every anchor."""
    return box_head(in_channels, anchors, numbers=BOX_NUMBERS)


class CenterDecoder(nn.Module):
    """Adds ``reg_preds``, the boxes in metres, to outputs that hold the raw ``bbox_preds``; no parameters.

    The raw numbers are the place in the cell (x, y), z and the three sizes in cells, and a direction (p6, p7) of which
    the yaw is atan2(p6, p7).

    Args:
        voxel_size: x, y, z in metres.
        lidar_range: of which the lower ends x0, y0, z0 are the origin.
        out_size_factor: voxels per cell of the map.
        exponential: z is in metres already, and the sizes are logarithms of metres.
    """

    def __init__(
        self,
        voxel_size: Sequence[float],
        lidar_range: Sequence[float],
        out_size_factor: float,
        exponential: bool = False,
    ) -> None:
        super().__init__()
        self.exponential = exponential
        self.cell: Tensor
        self.origin: Tensor
        self.register_buffer("cell", out_size_factor * torch.tensor(voxel_size, dtype=torch.float32), persistent=False)
        self.register_buffer("origin", torch.tensor(lidar_range[:3], dtype=torch.float32), persistent=False)

    def forward(self, outputs: Mapping[str, Any], scene: SceneFeatures) -> dict[str, Any]:
        """``bbox_preds`` (B, 8, H, W) to ``reg_preds`` (B, H * W, 7), cells in the order (y, x)."""
        raw = outputs["bbox_preds"]
        return {**outputs, "reg_preds": self.boxes(raw).flatten(1, 2)}

    def boxes(self, raw: Tensor) -> Tensor:
        """(B, 8, H, W) to boxes (B, H, W, 7): centre, the three sizes, yaw."""
        numbers = raw.movedim(1, -1)
        rows, columns = raw.shape[-2:]
        y, x = torch.meshgrid(
            torch.arange(rows, device=raw.device), torch.arange(columns, device=raw.device), indexing="ij"
        )
        corner = torch.stack([x, y, torch.zeros_like(x)], dim=-1)
        centre = (corner + numbers[..., :3]) * self.cell + self.origin
        yaw = torch.atan2(numbers[..., 6], numbers[..., 7])
        sizes = numbers[..., 3:6] * self.cell
        if self.exponential:
            centre = torch.cat([centre[..., :2], numbers[..., 2:3]], dim=-1)
            sizes = numbers[..., 3:6].exp()
        return torch.cat([centre, sizes, yaw[..., None]], dim=-1)
