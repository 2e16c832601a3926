"""The CenterPoint loss, which makes its own targets. Source: spec models.md section 5.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import number, read
from opencood.registry import register

NO_ZERO = 1e-12
OBJECT_OFFSET = 1e-4


@dataclass(frozen=True)
class CenterTargets:
    """What a batch of boxes asks for.

    Attributes:
        heat: (B, 1, H, W), 1 at object centres, Gaussian around.
        boxes: (B, M, 8): fractions of a cell in x and y, z, sizes (grid units), sin and cos of the yaw.
        rows, columns: (B, M) int64 cell of each object.
        valid: (B, M) bool; the others are padding, or lie outside the map.
    """

    heat: Tensor
    boxes: Tensor
    rows: Tensor
    columns: Tensor
    valid: Tensor


@register("loss", "center_point_loss")
class CenterPointLoss(Loss):
    """Focal loss on a heat map of centres, L1 on the boxes at the centres.

    Args:
        cls_weight, loc_weight: weights of the two terms.
        code_weights: eight weights of the box values.
        target_assigner_config: {cav_lidar_range, voxel_size, out_size_factor, max_objs, gaussian_overlap, min_radius}.
    """

    def __init__(
        self, cls_weight: float, loc_weight: float, code_weights: list[float], target_assigner_config: dict[str, Any]
    ):
        self.cls_weight, self.loc_weight, self.code_weights = float(cls_weight), float(loc_weight), list(code_weights)
        section, where = target_assigner_config, "loss.args.target_assigner_config"
        self.stride = number(section, "out_size_factor", where)
        self.overlap = number(section, "gaussian_overlap", where)
        self.min_radius = number(section, "min_radius", where)
        self.origin, self.voxel = section["cav_lidar_range"][:3], section["voxel_size"]
        self.max_objects = int(section.get("max_objs", 500))

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``cls_loss`` and ``reg_loss``; ``bbox_preds`` (B, 8, H, W) are raw."""
        logits, boxes = read(outputs, "cls_preds", suffix), read(outputs, "bbox_preds", suffix)
        wanted = self.targets(targets, logits)
        classes = center_focal(logits, wanted.heat).sum() * self.cls_weight
        batch = torch.arange(len(boxes), device=boxes.device).unsqueeze(1).expand_as(wanted.rows)
        found = boxes[batch, :, wanted.rows, wanted.columns]
        distance = (found - wanted.boxes).abs() * boxes.new_tensor(self.code_weights)
        places = (distance * wanted.valid.unsqueeze(-1)).sum() * self.loc_weight
        return {
            "cls_loss": Part(classes, (wanted.heat == 1).sum(), floor=1.0),
            "reg_loss": Part(places, wanted.valid.sum(), offset=OBJECT_OFFSET),
        }

    def targets(self, labels: Targets, like: Tensor) -> CenterTargets:
        """Heat map and box values of ``object_bbx_center`` (B, M, 7) for maps shaped like (B, 1, H, W).

        Columns 3, 4, 5 (h, w, l) count as the extents along x, y, z, as published checkpoints learned them.
        """
        boxes = labels["object_bbx_center"][:, : self.max_objects].to(like)
        scale = boxes.new_tensor(self.voxel) * self.stride
        cells = (boxes[..., :3] - boxes.new_tensor(self.origin)) / scale
        sizes = boxes[..., 3:6] / scale
        corner = cells[..., :2].floor()
        columns, rows = corner[..., 0].long(), corner[..., 1].long()
        height, width = like.shape[-2:]
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        valid = inside & (labels["object_bbx_mask"][:, : self.max_objects] > 0)
        yaw = boxes[..., 6:7]
        values = [cells[..., :2] - corner, cells[..., 2:3], sizes, torch.sin(yaw), torch.cos(yaw)]
        radius = gaussian_radius(sizes[..., 0], sizes[..., 1], self.overlap).floor().clamp(min=self.min_radius)
        heat = gaussian_heat(corner, radius, valid, height, width)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        return CenterTargets(heat.unsqueeze(1), torch.cat(values, dim=-1), rows, columns, valid)


def center_focal(logits: Tensor, heat: Tensor) -> Tensor:
    """Element-wise focal loss of a heat map: exact centres are positive, cells near them count less as negatives."""
    p = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    centre = -((1 - p) ** 2) * torch.log(p + NO_ZERO)
    elsewhere = -((1 - heat) ** 4) * p**2 * torch.log(1 - p + NO_ZERO)
    return torch.where(heat == 1, centre, elsewhere)


def gaussian_radius(first: Tensor, second: Tensor, overlap: float) -> Tensor:
    """Radius in cells within which a shifted box still overlaps by ``overlap``; sizes in cells.

    The smallest of the three published cases, each root taken as (b + sqrt(b^2 - 4ac)) / 2a.
    """
    total, area = first + second, first * second
    cases = [
        (torch.ones_like(area), total, area * (1 - overlap) / (1 + overlap)),
        (4 * torch.ones_like(area), 2 * total, (1 - overlap) * area),
        (4 * overlap * torch.ones_like(area), -2 * overlap * total, (overlap - 1) * area),
    ]
    roots = [(b + (b**2 - 4 * a * c).clamp(min=0).sqrt()) / (2 * a) for a, b, c in cases]
    return torch.stack(roots).amin(dim=0)


def gaussian_heat(cells: Tensor, radius: Tensor, valid: Tensor, height: int, width: int) -> Tensor:
    """Heat map (B, H, W) of objects at integer cells (B, M, 2) as (column, row): the largest Gaussian counts."""
    columns = torch.arange(width, device=cells.device, dtype=cells.dtype) - cells[..., 0:1]  # (B, M, W)
    rows = torch.arange(height, device=cells.device, dtype=cells.dtype) - cells[..., 1:2]  # (B, M, H)
    reach = radius.unsqueeze(-1)
    scale = 2 * ((2 * reach + 1) / 6) ** 2
    along_x = torch.exp(-(columns**2) / scale) * (columns.abs() <= reach)
    along_y = torch.exp(-(rows**2) / scale) * (rows.abs() <= reach)
    each = along_y.unsqueeze(-1) * along_x.unsqueeze(-2) * valid[..., None, None]
    return each.amax(dim=1)
