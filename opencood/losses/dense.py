"""Losses of the detectors on whole maps: PIXOR and VoxelNet. Source: spec models.md section 5.5."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.geometry.coding import flatten_head
from opencood.losses.functions import smooth_l1
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import read
from opencood.registry import register

EPSILON = 1e-6


@register("loss", "pixor_loss")
class PixorLoss(Loss):
    """Cross-entropy on every cell and smooth L1 on the occupied ones.

    Args:
        alpha: weight of the classification.
        beta: weight of the regression.
    """

    def __init__(self, alpha: float, beta: float):
        self.alpha, self.beta = float(alpha), float(beta)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``cls_loss`` and ``reg_loss`` against ``label_map`` (B, 7, H, W): class, then six residuals."""
        logits, residuals = read(outputs, "cls", suffix), read(outputs, "reg", suffix)
        label = targets["label_map"].to(logits)
        occupied, wanted = label[:, :1], label[:, 1:]
        classes = F.binary_cross_entropy_with_logits(logits, occupied, reduction="sum")
        boxes = smooth_l1(occupied * residuals - occupied * wanted, sigma=1.0).sum()
        return {
            "cls_loss": Part(classes, logits.numel(), weight=self.alpha),
            "reg_loss": Part(boxes, occupied.sum(), floor=EPSILON, weight=self.beta),
        }


@register("loss", "voxel_net_loss")
class VoxelNetLoss(Loss):
    """Cross-entropy averaged over positive and over negative anchors, and smooth L1 on the positive ones.

    Args:
        alpha: weight of the positive anchors' classification.
        beta: weight of the negative anchors' classification.
        reg: weight of the regression; the yaw is compared by its plain difference.
    """

    def __init__(self, alpha: float, beta: float, reg: float):
        self.alpha, self.beta, self.reg = float(alpha), float(beta), float(reg)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``cls_loss/positive``, ``cls_loss/negative`` and ``reg_loss``."""
        probability = torch.sigmoid(flatten_head(read(outputs, "cls_preds", suffix), 1).squeeze(-1))
        residuals = flatten_head(read(outputs, "reg_preds", suffix), 7)
        positive, negative = (_flat(targets[name], probability) for name in ("pos_equal_one", "neg_equal_one"))
        wanted = targets["targets"].reshape(residuals.shape).to(residuals)
        chosen = positive.unsqueeze(-1)
        found = -(positive * torch.log(probability + EPSILON)).sum()
        empty = -(negative * torch.log(1 - probability + EPSILON)).sum()
        boxes = smooth_l1(chosen * residuals - chosen * wanted, sigma=1.0).sum()
        return {
            "cls_loss/positive": Part(self.alpha * found, positive.sum(), offset=EPSILON),
            "cls_loss/negative": Part(self.beta * empty, negative.sum(), offset=EPSILON),
            "reg_loss": Part(self.reg * boxes, positive.sum(), offset=EPSILON),
        }


def _flat(flags: Tensor, like: Tensor) -> Tensor:
    return flags.reshape(like.shape).to(like)
