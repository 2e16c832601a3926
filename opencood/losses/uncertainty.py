"""The anchor loss with predicted uncertainties. Source: spec models.md section 5.5."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.errors import ConfigError, nearest
from opencood.geometry.coding import flatten_head
from opencood.losses.parts import Outputs, Part, Parts, Targets
from opencood.losses.point_pillar import PointPillarLoss
from opencood.losses.reading import count_samples, number, read
from opencood.registry import register

# dim -> which of the seven residuals an uncertainty is predicted for
COMPONENTS = {2: (0, 1), 3: (0, 1, 6), 7: tuple(range(7))}
KINDS = {"xy_loss_type": ("l1", "l2"), "angle_loss_type": ("l1", "l2", "von-mise")}


@register("loss", "point_pillar_uncertainty_loss", ignores=["iou"])
class PointPillarUncertaintyLoss(PointPillarLoss):
    """The anchor loss plus the likelihood of the residuals under predicted log variances.

    Args:
        uncertainty: {dim (2, 3 or 7), weight, xy_loss_type (l2, l1), angle_loss_type (l2, l1, von-mise), angle_weight,
            lambda_V, s0, limit_period}; only ``dim`` 3 treats the yaw on its own.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        uncertainty: dict[str, Any],
        dir: dict[str, Any] | None = None,
    ):
        super().__init__(pos_cls_weight, cls, reg, dir)
        where = "loss.args.uncertainty"
        self.dim = int(number(uncertainty, "dim", where))
        if self.dim not in COMPONENTS:
            raise ConfigError(f"{where}.dim: {self.dim} is none of 2, 3, 7.")
        self.weight = number(uncertainty, "weight", where)
        self.plane_kind = _kind(uncertainty, "xy_loss_type", where)
        self.angle_kind = _kind(uncertainty, "angle_loss_type", where)
        self.angle_weight = float(uncertainty.get("angle_weight", 1.0))
        self.spread_weight = float(uncertainty.get("lambda_V", 0.0))
        self.spread_start = float(uncertainty.get("s0", 0.0))
        self.either_way = bool(uncertainty.get("limit_period", False))

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The anchor parts and ``unc_loss``."""
        parts = super().parts(outputs, targets, suffix)
        log_variance = flatten_head(read(outputs, "unc_preds", suffix), self.dim)
        residuals = flatten_head(read(outputs, "reg_preds", suffix), 7)
        batch = residuals.shape[0]
        wanted = targets["targets"].reshape(batch, -1, 7).to(residuals)
        # A target without a finite value teaches nothing.
        wanted = torch.where(torch.isnan(wanted), residuals, wanted)
        difference = (residuals - wanted)[..., COMPONENTS[self.dim]]
        positive = targets["pos_equal_one"].reshape(batch, -1).to(residuals)
        share = positive / positive.sum(dim=1, keepdim=True).clamp(min=1.0)
        likelihood = self.likelihood(difference, log_variance)
        total = (likelihood.sum(dim=-1) * share).sum() * self.weight
        return {**parts, "unc_loss": Part(total, count_samples(outputs, targets))}

    def likelihood(self, difference: Tensor, log_variance: Tensor) -> Tensor:
        """Negative log likelihood (B, N, dim), up to constants, of residual differences under log variances."""
        if self.dim != 3:
            return _gaussian(difference, log_variance, self.plane_kind)
        plane = _gaussian(difference[..., :2], log_variance[..., :2], self.plane_kind)
        turn, spread = difference[..., 2:], log_variance[..., 2:]
        if self.angle_kind == "von-mise":
            angle = self._von_mises(turn, spread)
        else:
            angle = _gaussian(turn, spread, self.angle_kind)
        return torch.cat([plane, angle * self.angle_weight], dim=-1)

    def _von_mises(self, turn: Tensor, spread: Tensor) -> Tensor:
        concentration = torch.exp(-spread)
        # log I0(k) = log(I0e(k)) + k, which does not overflow
        normaliser = torch.log(torch.special.i0e(concentration)) + concentration
        cosine = torch.cos(turn).abs().detach() if self.either_way else torch.cos(turn)
        return normaliser - concentration * cosine + self.spread_weight * F.elu(spread - self.spread_start)


def _gaussian(difference: Tensor, log_variance: Tensor, kind: str) -> Tensor:
    distance = difference.abs() if kind == "l1" else difference**2
    return 0.5 * (torch.exp(-log_variance) * distance + log_variance)


def _kind(section: dict[str, Any], key: str, where: str) -> str:
    value = str(section.get(key, "l2"))
    if value not in KINDS[key]:
        raise ConfigError(f"{where}.{key}: '{value}' is none of {', '.join(KINDS[key])}.{nearest(value, KINDS[key])}")
    return value
