"""The anchor loss of several classes under GenComm's name (V2X-Real). Source: spec gencomm.md section 6.3."""

from __future__ import annotations

from opencood.losses.cooperative import CooperativeLoss
from opencood.registry import register


@register("loss", "point_pillar_v2xreal_loss", ignores=["generate_weight"])
class MultiClassLoss(CooperativeLoss):
    """The cooperative loss with several classes.

    Args:
        cls_weight: weight of the classification.
        reg: weight of the regression.
        num_class: number of classes.
    """

    def __init__(self, cls_weight: float, reg: float, num_class: int):
        super().__init__(cls_weight, reg, num_class)
