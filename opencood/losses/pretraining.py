"""Losses of self-supervised pretraining: each judges one kind of target (spec coopre.md 5 and 9)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.errors import ConfigError
from opencood.geometry.chamfer import CELLS_PER_BLOCK, chamfer, distance_function
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import in_full_precision, read
from opencood.registry import register

Where = Literal["all", "masked"]


@register("loss", "chamfer_loss")
class ChamferLoss(Loss):
    """Points that were hidden: two-sided Chamfer distance per masked cell, and how many there were.

    Args:
        chamfer_weight: of the distance.
        pc_num_weight: of the smooth L1 difference of ``pred_num`` and ``gt_num``; 0 leaves it out of the gradient.
        distance: ``l1``, ``l2`` (squares) or ``smooth_l1``, summed over x, y, z.
        cells_per_block: how many cells are compared at once, see :mod:`opencood.geometry.chamfer`.
    """

    def __init__(
        self,
        chamfer_weight: float = 1.0,
        pc_num_weight: float = 0.0,
        distance: str = "l1",
        cells_per_block: int = CELLS_PER_BLOCK,
    ) -> None:
        distance_function(distance)
        if cells_per_block < 1:
            raise ConfigError(f"loss.args.cells_per_block: expected at least 1, found {cells_per_block}.")
        self.chamfer_weight, self.pc_num_weight = float(chamfer_weight), float(pc_num_weight)
        self.distance, self.cells_per_block = distance, cells_per_block

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``Chamfer_loss/source``, ``Chamfer_loss/target`` and ``PcNum_loss``; ``targets`` are not needed.

        ``pred_coor`` (B, 3P, H, W) with channel ``axis * P + k`` is compared with ``target_points`` (K, T, 3) and
        ``target_valid`` (K, T) of the cells ``target_cells`` (K, 3) [sample, y, x], or with the published maps
        ``gt_coor`` (B, T, 3, H, W), ``chamfer_mask`` (B, T, H, W) and ``gt_mask`` (B, H, W).
        """
        predicted = read(outputs, "pred_coor")
        cells, points, valid = _hidden_points(outputs)
        source = _at_cells(predicted, cells).unflatten(1, (3, -1)).transpose(1, 2)  # (K, P, 3)
        found = chamfer(source, points, valid, self.distance, "sum", cells_per_block=self.cells_per_block)
        parts = {
            "Chamfer_loss/source": Part(
                found.source / source.shape[1], valid.any(dim=1).sum(), floor=1.0, weight=self.chamfer_weight
            ),
            "Chamfer_loss/target": Part(found.target, valid.sum(), floor=1.0, weight=self.chamfer_weight),
        }
        return parts | {"PcNum_loss": self._count(outputs)}

    def _count(self, outputs: Outputs) -> Part:
        masked = outputs["gt_mask"]
        off = F.smooth_l1_loss(read(outputs, "pred_num"), read(outputs, "gt_num"), reduction="none").squeeze(1)
        return Part((off * masked).sum(), masked.sum(), floor=1.0, weight=self.pc_num_weight)


@register("loss", "occupancy_loss")
class OccupancyLoss(Loss):
    """Which cells of space hold a point: binary cross-entropy of ``pred_occupancy`` (B, Z, H, W).

    Args:
        over: ``all`` columns (completion) or the ``masked`` ones only.
        positive_weight: how much an occupied cell counts in relation to an empty one.
    """

    def __init__(self, over: Where = "all", positive_weight: float = 1.0) -> None:
        self.over, self.positive_weight = over, float(positive_weight)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Part ``occupancy_loss`` against ``gt_occupancy`` (B, Z, H, W) in {0, 1}."""
        logits, truth = read(outputs, "pred_occupancy"), read(outputs, "gt_occupancy")
        weight = torch.tensor(self.positive_weight, device=logits.device)
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=weight)
        return {"occupancy_loss": _over(each, outputs, self.over)}


@register("loss", "bev_map_loss")
class BevMapLoss(Loss):
    """The map of the whole cloud: mean squared error of ``pred_map`` (B, Z, H, W).

    Args:
        over: ``all`` columns or the ``masked`` ones only.
    """

    def __init__(self, over: Where = "all") -> None:
        self.over = over

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Part ``bev_map_loss`` against ``gt_map`` (B, Z, H, W)."""
        difference = read(outputs, "pred_map") - read(outputs, "gt_map")
        return {"bev_map_loss": _over(difference.square(), outputs, self.over)}


@register("loss", "bev_contrast_loss")
class BevContrastLoss(Loss):
    """Cells of two views that show the same place are alike, those of other places are not: InfoNCE.

    Args:
        temperature: divisor of the cosine similarities.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        if temperature <= 0:
            raise ConfigError(f"loss.args.temperature: expected a number above 0, found {temperature}.")
        self.temperature = float(temperature)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Part ``contrast_loss`` of ``embedding`` (2B, D, H, W), first all first views, then all second ones.

        Row i of ``contrast_cells`` (N, 3) [map, y, x] shows the same place as row i of ``contrast_partners``.
        """
        embedding = F.normalize(read(outputs, "embedding"), dim=1)
        own, partner = (_at_cells(embedding, outputs[name]) for name in ("contrast_cells", "contrast_partners"))
        same = torch.arange(len(own), device=own.device)
        total = F.cross_entropy(own @ partner.T / self.temperature, same, reduction="sum")
        return {"contrast_loss": Part(total, float(len(own)), floor=1.0)}


def _over(each: Tensor, outputs: Outputs, where: Where) -> Part:
    """The mean of a map (B, Z, H, W) over all columns or over the masked ones."""
    if where == "all":
        return Part(each.sum(), float(each.numel()), floor=1.0)
    masked = outputs["gt_mask"][:, None]
    return Part((each * masked).sum(), masked.sum() * each.shape[1], floor=1.0)


def _at_cells(maps: Tensor, cells: Tensor) -> Tensor:
    """(K, C) of maps (B, C, H, W) at cells (K, 3) [map, y, x]."""
    index, y, x = cells.unbind(1)
    return maps[index, :, y, x]


def _hidden_points(outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
    """Cells (K, 3), points (K, T, 3) and which of them exist (K, T)."""
    if "target_points" in outputs:
        return outputs["target_cells"], in_full_precision(outputs["target_points"]), outputs["target_valid"]
    cells = (read(outputs, "gt_mask") > 0).nonzero()
    index, y, x = cells.unbind(1)
    points, valid = read(outputs, "gt_coor")[index, :, :, y, x], outputs["chamfer_mask"][index, :, y, x]
    return cells, points, valid > 0
