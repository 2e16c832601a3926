"""Losses of maps of the ground. Source: spec homogeneous.md section 5."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.errors import ConfigError, nearest
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import read
from opencood.registry import register

TARGETS = ("static", "dynamic", "both")


@register("loss", "vanilla_seg_loss")
class SegmentationLoss(Loss):
    """Weighted cross-entropy of what stands still and of what moves.

    Args:
        target: ``static``, ``dynamic`` or ``both``: which terms there are.
        d_weights: weight of the class vehicle.
        s_weights, l_weights: weights of the classes road and lane line.
        d_coe, s_coe: factors of the two terms.

    Raises:
        ConfigError: another target.
    """

    def __init__(
        self,
        target: str,
        d_weights: float,
        s_weights: float,
        l_weights: float = 50.0,
        d_coe: float = 1.0,
        s_coe: float = 1.0,
    ) -> None:
        if target not in TARGETS:
            raise ConfigError(
                f"loss.args.target: '{target}' is none of {', '.join(TARGETS)}.{nearest(target, TARGETS)}"
            )
        chosen = ("static", "dynamic") if target == "both" else (target,)
        weights = {"static": (1.0, s_weights, l_weights), "dynamic": (1.0, d_weights)}
        factors = {"static": s_coe, "dynamic": d_coe}
        self.terms = {kind: (torch.tensor(weights[kind]), float(factors[kind])) for kind in chosen}

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``static_loss`` and ``dynamic_loss``, reported with their factors.

        Logits ``static_seg`` (B, 3, H, W), ``dynamic_seg`` (B, 2, H, W); classes ``static_bev``, ``dynamic_bev``
        (B, H', W'), which are taken at the nearest cells where the maps differ in size.
        """
        return {
            f"{kind}_loss": _cross_entropy(read(outputs, f"{kind}_seg", suffix), _classes(targets, kind), *chosen)
            for kind, chosen in self.terms.items()
        }


def _classes(targets: Targets, kind: str) -> Tensor:
    name = f"{kind}_bev"
    if name not in targets:
        raise ConfigError(
            f"loss.core_method: segmentation needs the label '{name}'; samples make it with postprocess.core_method "
            f"CameraBevPostprocessor. The labels: {', '.join(map(str, targets))}."
        )
    return targets[name]


def _cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor, factor: float) -> Part:
    if classes.shape[-2:] != logits.shape[-2:]:
        size = (logits.shape[-2], logits.shape[-1])
        classes = F.interpolate(classes[:, None].float(), size, mode="nearest-exact")[:, 0].long()
    weights = weights.to(logits)
    summed = F.cross_entropy(logits, classes, weights, reduction="sum")
    return Part(summed * factor, weights[classes].sum())
