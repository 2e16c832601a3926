"""The anchor loss of OpenCOOD, V2V4Real, V2X-Real; what MASH and robust V2VNet add. Source: spec homogeneous.md 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.config.flavor import quirk
from opencood.errors import ConfigError
from opencood.geometry.coding import flatten_head
from opencood.geometry.warp import normalize_pairwise
from opencood.losses import functions as f
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import count_samples, in_full_precision, read
from opencood.registry import register

ALPHA, GAMMA, SIGMA = 0.25, 2.0, 3.0
TRUSTED = 0.85  # trust wanted among agents with weak pose errors; the rest among others
EVALUATED = -1  # stands for the stage of a model that is not trained


@register("loss", "point_pillar_loss_opencood")
class CooperativeLoss(Loss):
    """Focal classification and sine smooth-L1 regression, without directions; one or several classes.

    Args:
        cls_weight: weight of the classification.
        reg: weight of the regression.
        num_class: with several classes ``pos_equal_one`` holds class numbers from 1, and every anchor has that many
            logits.
        hypes: its quirk ``loss_marked_negatives`` says whether only anchors that ``neg_equal_one`` marks count as
            background (V2V4Real) or all that are not positive. Labels below 0 never count.
    """

    def __init__(self, cls_weight: float, reg: float, num_class: int = 1, hypes: Mapping[str, Any] | None = None):
        self.cls_weight, self.reg = float(cls_weight), float(reg)
        self.num_class = num_class
        self.marked_negatives = hypes is not None and bool(quirk(hypes, "loss_marked_negatives"))

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``conf_loss`` and ``reg_loss``."""
        logits = flatten_head(read(outputs, "cls_preds", suffix), self.num_class)
        residuals = flatten_head(read(outputs, "reg_preds", suffix), 7)
        labels = self._flat(targets, "pos_equal_one", logits)
        positive = labels > 0
        share = 1 / positive.sum(dim=1, keepdim=True).clamp(min=1).to(logits)
        cared = (self._flat(targets, "neg_equal_one", logits) > 0) | positive if self.marked_negatives else labels >= 0
        kinds = torch.arange(1, self.num_class + 1, device=labels.device)
        wanted = positive[..., None] if self.num_class == 1 else labels[..., None].long() == kinds
        entropy = f.focal_cross_entropy(logits, wanted.to(logits), ALPHA, GAMMA).sum(dim=-1)
        chosen = positive.nonzero(as_tuple=True)
        boxes = targets["targets"].reshape(*labels.shape, 7)[chosen].to(residuals)
        distance = f.smooth_l1(f.sine_difference(residuals[chosen], boxes), SIGMA).sum(dim=-1)
        samples = count_samples(outputs, targets)
        return {
            "conf_loss": Part((entropy * cared * share).sum() * self.cls_weight, samples),
            "reg_loss": Part((distance * share.expand_as(labels)[chosen]).sum() * self.reg, samples),
        }

    def _flat(self, targets: Targets, name: str, logits: Tensor) -> Tensor:
        """(B, N) of a target map."""
        values = targets[name].reshape(targets[name].shape[0], -1)
        if values.shape != logits.shape[:2]:
            raise ConfigError(
                f"model and postprocess disagree: predictions for {tuple(logits.shape[:2])} (samples, anchors), "
                f"targets for {tuple(values.shape)}. Check anchor_number, num_class, feature_stride and the ranges."
            )
        return values


@register("loss", "point_pillar_mash_loss")
class MashLoss(CooperativeLoss):
    """The anchor loss plus the cross-entropy of MASH's correspondences against those of the true poses.

    Args:
        grid_weight: weight of the correspondences.
        H, W: cells of the map; downsample_rate: voxels that make a cell; voxel_size: x, y, z in metres.
    """

    def __init__(
        self,
        cls_weight: float,
        reg: float,
        grid_weight: float,
        H: int,
        W: int,
        downsample_rate: float,
        voxel_size: Sequence[float],
    ):
        super().__init__(cls_weight, reg)
        self.grid_weight = float(grid_weight)
        self.size = (H, W)
        self.extent = (H * downsample_rate * voxel_size[0], W * downsample_rate * voxel_size[0])

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The anchor parts and ``grid_loss``, where any scene has a neighbour."""
        parts = super().parts(outputs, targets, suffix)
        volume = outputs.get(f"corr_vol{suffix}")
        if volume is None:
            return parts
        volume = in_full_precision(volume)
        cells = self.true_cells(targets["pairwise_t_matrix"], targets["record_len"])
        entropy = F.cross_entropy(volume, cells.to(volume.device), reduction="sum")
        return {**parts, "grid_loss": Part(entropy * self.grid_weight, cells.numel())}

    def true_cells(self, pairwise: Tensor, record_len: Tensor) -> Tensor:
        """(P, H, W) cell of every neighbour that each cell of its ego shows, H * W where none does.

        Args:
            pairwise: (B, L, L, 4, 4).
            record_len: (B,).
        """
        height, width = self.size
        slots = torch.arange(pairwise.shape[1], device=pairwise.device)
        neighbours = (slots[None] < record_len.to(slots)[:, None]) & (slots[None] > 0)
        theta = normalize_pairwise(pairwise[:, 0][neighbours], *self.extent)
        if not len(theta):
            return torch.zeros(0, height, width, dtype=torch.long, device=theta.device)
        grid = F.affine_grid(theta, [len(theta), 1, height, width], align_corners=False)
        place = ((grid / 2 + 0.5) * grid.new_tensor([width, height])).trunc().long()
        inside = ((grid > -1) & (grid < 1)).all(dim=-1)
        return torch.where(inside, place[..., 1] * width + place[..., 0], height * width)


@register("loss", "point_pillar_v2v_robust_loss")
class RobustLoss(CooperativeLoss):
    """The anchor loss, the trust in pairs of agents, or the correction of their poses, as the model's ``stage`` says.

    Args:
        score_weight: weight of the trust (stage 0), which is high among agents whose pose error is weak.
        pose_weight: weight of the corrections (stages 1 and 2); the reported ``pose_loss`` does not hold it.
    """

    def __init__(self, cls_weight: float, reg: float, score_weight: float, pose_weight: float):
        super().__init__(cls_weight, reg)
        self.score_weight, self.pose_weight = float(score_weight), float(pose_weight)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The parts of the stage; without a stage, in evaluation, the anchor parts."""
        stage = int(outputs.get("stage", EVALUATED))
        parts = {} if stage == 1 else super().parts(outputs, targets, suffix)
        if stage == EVALUATED:
            return parts
        pairs = _pairs(targets["record_len"], int(read(outputs, "scores" if stage == 0 else "pairwise_corr").shape[1]))
        if stage == 0:
            return parts | {"score_loss": self._scores(outputs, pairs)}
        return parts | {"pose_loss": self._poses(outputs, pairs)}

    def _scores(self, outputs: Outputs, pairs: Tensor) -> Part:
        scores, weak = read(outputs, "scores"), read(outputs, "choice")
        pairs = pairs.to(scores.device)
        wanted = torch.where((weak[:, :, None] > 0) & (weak[:, None, :] > 0), TRUSTED, 1 - TRUSTED)
        entropy = F.binary_cross_entropy(scores, wanted.to(scores), reduction="none")
        return Part((entropy * pairs).sum(), pairs.sum(), floor=1.0, weight=self.score_weight)

    def _poses(self, outputs: Outputs, pairs: Tensor) -> Part:
        found, wanted = read(outputs, "pairwise_corr"), read(outputs, "pose_target")
        pairs = pairs.to(found.device)
        distance = f.smooth_l1(found - wanted.to(found), SIGMA)
        shared = distance @ distance.new_tensor([2 / 3, 2 / 3, 1 / 3])
        return Part((shared * pairs).sum(), pairs.sum(), floor=1.0, weight=self.pose_weight)


def _pairs(record_len: Tensor, slots: int) -> Tensor:
    """(B, L, L) pairs of different agents of a scene."""
    here = torch.arange(slots) < record_len.cpu()[:, None]
    return here[:, :, None] & here[:, None, :] & ~torch.eye(slots, dtype=torch.bool)
