"""Losses of GenComm, CodeFilling and MPDA: a detection loss and one term more. Source: spec gencomm.md section 6."""

from __future__ import annotations

from typing import Any

from opencood.errors import ConfigError
from opencood.losses.codealign import PointPillarCodebookLoss
from opencood.losses.extras import WithCodebook, WithDomains, WithGeneration, also_reported
from opencood.losses.multi_class import MultiClassLoss
from opencood.losses.parts import Outputs, Parts, Targets
from opencood.losses.point_pillar import PointPillarDepthLoss, PointPillarLoss
from opencood.registry import register

# Sections that files carry from the methods they were copied from.
COPIED = ("iou", "da", "pyramid", "gmatch_weight")


@register("loss", "point_pillar_gencomm_loss", "point_pillar_diffcomm_loss", ignores=COPIED)
class PointPillarGenCommLoss(WithGeneration, PointPillarDepthLoss):
    """The anchor and depth loss, and how far generated features are from the agents' own.

    Args:
        generate_weight: weight of the new term.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        dir: dict[str, Any] | None = None,
        depth: dict[str, Any] | None = None,
        generate_weight: float = 1.0,
    ):
        super().__init__(pos_cls_weight, cls, reg, dir, depth, generate_weight=generate_weight)


class PointPillarCodeFillingLoss(WithCodebook, PointPillarDepthLoss):
    """The anchor and depth loss, and how far restored features are from the agents' own."""

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        dir: dict[str, Any] | None = None,
        depth: dict[str, Any] | None = None,
    ):
        super().__init__(pos_cls_weight, cls, reg, dir, depth)


@register("loss", "point_pillar_codebook_loss", ignores=COPIED)
def point_pillar_codebook_loss(
    pos_cls_weight: float,
    cls: dict[str, Any],
    reg: dict[str, Any],
    dir: dict[str, Any] | None = None,
    depth: dict[str, Any] | None = None,
    codebook: dict[str, Any] | None = None,
) -> PointPillarCodebookLoss | PointPillarCodeFillingLoss:
    """CodeAlign's loss with a section ``codebook``, GenComm's for CodeFilling without: both carry this name."""
    if codebook is not None:
        return PointPillarCodebookLoss(pos_cls_weight, cls, reg, codebook, dir)
    return PointPillarCodeFillingLoss(pos_cls_weight, cls, reg, dir, depth)


@register("loss", "point_pillar_mpda_loss", ignores=("iou", "depth"))
class PointPillarMpdaLoss(WithDomains, PointPillarLoss):
    """The anchor loss, and how well egos are told from collaborators.

    Args:
        da: whether the new term counts.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        dir: dict[str, Any] | None = None,
        da: bool = False,
    ):
        super().__init__(pos_cls_weight, cls, reg, dir, da=da)


@register("loss", "point_pillar_v2xreal_gencomm_loss")
class MultiClassGenCommLoss(WithGeneration, MultiClassLoss):
    """The loss of several classes, and how far generated features are from the agents' own.

    Args:
        generate_weight: weight of the new term, which is reported under two names.
    """

    def __init__(self, cls_weight: float, reg: float, num_class: int, generate_weight: float):
        super().__init__(cls_weight, reg, num_class, generate_weight=generate_weight)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The detection parts, ``generate_loss``, and the same again as ``gen_loss``."""
        parts = super().parts(outputs, targets, suffix)
        return parts if suffix else {**parts, "gen_loss": also_reported(parts["generate_loss"])}


@register("loss", "point_pillar_v2xreal_codebook_loss", ignores=("generate_weight",))
class MultiClassCodebookLoss(WithCodebook, MultiClassLoss):
    """The loss of several classes, and how far restored features are from the agents' own."""

    def __init__(self, cls_weight: float, reg: float, num_class: int):
        super().__init__(cls_weight, reg, num_class)


@register("loss", "point_pillar_v2xreal_mpda_loss", ignores=("generate_weight",))
class MultiClassMpdaLoss(WithDomains, MultiClassLoss):
    """The loss of several classes, and how well egos are told from collaborators.

    Args:
        da: whether the new term counts.
    """

    def __init__(self, cls_weight: float, reg: float, num_class: int, da: bool = False):
        super().__init__(cls_weight, reg, num_class, da=da)


REFUSED = {
    "point_pillar_gmatch_loss": "it compares outputs *_preds_S and *_preds_T, which no published model gives; "
    "train with point_pillar_gencomm_loss",
    "point_pillar_diffcomm_message_loss": "no code of it was ever published; train with point_pillar_gencomm_loss",
}


def _refuse(name: str, reason: str) -> None:
    def refused(**args: Any) -> None:
        raise ConfigError(f"loss.core_method: '{name}' cannot be used: {reason}.")

    refused.__doc__ = f"Refused: {reason}."
    register("loss", name)(refused)


for _name, _reason in REFUSED.items():
    _refuse(_name, _reason)
