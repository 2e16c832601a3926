"""The anchor loss of several classes (V2X-Real). Source: spec gencomm.md section 6.3."""

from __future__ import annotations

import torch
from torch import Tensor

from opencood.geometry.coding import flatten_head
from opencood.losses import functions as f
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import read
from opencood.registry import register

_ALPHA, _GAMMA, _SIGMA = 0.25, 2.0, 3.0


@register("loss", "point_pillar_v2xreal_loss", ignores=["generate_weight"])
class MultiClassLoss(Loss):
    """Focal classification of every anchor into every class, and sine smooth-L1 regression; directions are not learned.

    Args:
        cls_weight: weight of the classification.
        reg: weight of the regression.
        num_class: number of classes.
    """

    def __init__(self, cls_weight: float, reg: float, num_class: int):
        self.cls_weight, self.reg_weight, self.num_class = float(cls_weight), float(reg), int(num_class)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``conf_loss`` and ``reg_loss``.

        ``pos_equal_one`` (B, H, W, N) holds the class of every anchor, counted from 1; 0 is background, -1 is ignored.
        """
        logits = flatten_head(read(outputs, "cls_preds", suffix), self.num_class)
        residuals = flatten_head(read(outputs, "reg_preds", suffix), 7)
        labels = targets["pos_equal_one"].flatten(1).to(logits)
        positive = labels > 0
        found = positive.sum(dim=1, keepdim=True).clamp(min=1)

        focal = f.focal_cross_entropy(logits, self._one_hot(labels), _ALPHA, _GAMMA).sum(dim=-1)
        chosen = positive.nonzero(as_tuple=True)
        wanted = targets["targets"].reshape(*labels.shape, 7)[chosen].to(residuals)
        distance = f.smooth_l1(f.sine_difference(residuals[chosen], wanted), _SIGMA).sum(dim=-1)
        samples = len(labels)
        return {
            "conf_loss": Part(((labels >= 0) / found * focal).sum() * self.cls_weight, samples),
            "reg_loss": Part((distance * (1 / found).expand_as(labels)[chosen]).sum() * self.reg_weight, samples),
        }

    def _one_hot(self, labels: Tensor) -> Tensor:
        """(B, N, classes) of labels (B, N); background and ignored anchors are zero everywhere."""
        classes = torch.arange(1, self.num_class + 1, device=labels.device)
        return (labels.unsqueeze(-1) == classes).to(labels)
