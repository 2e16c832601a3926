"""The losses of CIA-SSD and of the first stage of FPV-RCNN. Source: spec homogeneous.md section 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.config.tree import section
from opencood.errors import ConfigError
from opencood.geometry.anchors import anchor_grid
from opencood.geometry.boxes import boxes_to_corners_3d
from opencood.geometry.coding import decode_boxes, flatten_head
from opencood.geometry.iou_torch import paired_iou_3d
from opencood.geometry.postprocessors.candidates import first_stage
from opencood.losses import functions as f
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.point_pillar import PointPillarLoss
from opencood.losses.reading import number, read
from opencood.registry import REGISTRY, register

SECOND_STAGE = "stage2_out"


@register("loss", "ciassd_loss")
class CiassdLoss(PointPillarLoss):
    """Focal classification, smooth-L1 regression, direction, and how much a box will overlap the object.

    Args:
        pos_cls_weight, cls, reg: as in the anchor loss.
        iou: {sigma, weight}: smooth L1 of the predicted against ``2 IoU - 1`` of the decoded box.
        dir: {weight}, or None without a direction head; the second of two bins is a yaw above zero. The yaw is that of
            the sine-encoded residual, as published, plus that of the anchor.
        encode_rad_error_by_sin: yaw residuals are compared by the sine of their difference.
        hypes: the configuration, of which sizes and turns of the anchors are read.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        iou: dict[str, Any],
        dir: dict[str, Any] | None = None,
        encode_rad_error_by_sin: bool = True,
        hypes: Mapping[str, Any] | None = None,
    ):
        super().__init__(pos_cls_weight, cls, reg)
        self.iou_sigma, self.iou_weight = (number(iou, key, "loss.args.iou") for key in ("sigma", "weight"))
        self.dir_weight = number(dir, "weight", "loss.args.dir") if dir else 0.0
        self.by_sine = bool(encode_rad_error_by_sin)
        self.order, self.anchors = _anchors(hypes or {})

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``cls_loss``, ``reg_loss``, ``iou_loss`` and, with a direction section, ``dir_loss``."""
        stage = {
            **{key: outputs[key] for key in ("record_len", "batch_size") if key in outputs},
            **first_stage(outputs),
        }
        parts = super().parts(stage, targets, suffix)
        samples = parts["cls_loss"].count
        residuals = flatten_head(read(stage, "reg_preds", suffix), 7)
        positive = targets["pos_equal_one"].reshape(len(residuals), -1).to(residuals) > 0
        chosen = positive.nonzero(as_tuple=True)
        share = (positive / positive.sum(dim=1, keepdim=True).clamp(min=1.0))[chosen]
        predicted, wanted = residuals[chosen], targets["targets"].reshape(*positive.shape, 7)[chosen].to(residuals)
        anchors = self.anchors.to(residuals)[chosen[1] % len(self.anchors)]

        if not self.by_sine:
            distance = f.smooth_l1(predicted - wanted, self.sigma)
            parts["reg_loss"] = Part((distance * share.unsqueeze(-1)).sum() * self.reg_weight, samples)
        overlap = flatten_head(read(stage, "iou_preds", suffix), 1)[..., 0][chosen]
        error = f.smooth_l1(overlap - self._overlap(predicted, wanted, anchors), self.iou_sigma)
        parts["iou_loss"] = Part((error * share).sum() * self.iou_weight, samples)
        if self.dir_weight:
            turns = flatten_head(read(stage, "dir_preds", suffix), 2)[chosen]
            yaw = torch.cos(predicted[:, 6]) * torch.sin(wanted[:, 6]) if self.by_sine else wanted[:, 6]
            above = (yaw.detach() + anchors[:, 6] > 0).long()
            entropy = F.cross_entropy(turns, above, reduction="none")
            parts["dir_loss"] = Part((entropy * share).sum() * self.dir_weight, samples)
        return parts

    @torch.no_grad()
    def _overlap(self, predicted: Tensor, wanted: Tensor, anchors: Tensor) -> Tensor:
        """``2 IoU - 1`` (P,) of the boxes that residuals (P, 7) stand for; where the anchors are does not matter."""
        corners = [boxes_to_corners_3d(decode_boxes(deltas, anchors), self.order) for deltas in (predicted, wanted)]
        return (2 * paired_iou_3d(*corners) - 1).to(predicted)


@register("loss", "fpvrcnn_loss")
class FpvrcnnLoss(Loss):
    """The losses of both stages of FPV-RCNN; that of the second where the detector ran it.

    Args:
        stage1: arguments of ``ciassd_loss``.
        stage2: {cls: {weight}, iou: {sigma, weight}, reg: {sigma, weight, code_weights}} of the second stage.
        hypes: the configuration.
    """

    def __init__(
        self, stage1: dict[str, Any], stage2: dict[str, Any] | None = None, hypes: Mapping[str, Any] | None = None
    ):
        self.first: Loss = REGISTRY.build("loss", "ciassd_loss", stage1, where="loss.args.stage1", hypes=hypes)
        self.second = dict(stage2 or {})

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The parts of ``ciassd_loss`` and, of a second stage, ``rcnn_loss`` in three parts.

        Raises:
            ConfigError: the second stage ran, but its section is missing.
        """
        first: Any = targets.get("stage1", targets)  # samples of detectors in two stages keep targets of both apart
        parts = self.first.parts(outputs, first, suffix)
        if "rcnn_label_dict" not in outputs:
            return parts
        return parts | self._second_parts(outputs[SECOND_STAGE], outputs["rcnn_label_dict"])

    def _second_parts(self, heads: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Parts:
        weights = {name: self._setting(name, "weight") for name in ("cls", "iou", "reg")}
        positive = labels["cls"]
        entropy = F.binary_cross_entropy_with_logits(heads["rcnn_cls"].float(), positive, reduction="sum")
        wanted = 2 * (labels["iou"] - 0.5)
        overlap = f.smooth_l1(heads["rcnn_iou"].float() - wanted, self._setting("iou", "sigma"))
        distance = f.smooth_l1(heads["rcnn_reg"].float() - labels["reg"], self._setting("reg", "sigma"))
        distance = distance * positive.new_tensor(section(self.second, "reg").get("code_weights") or [1.0])
        return {
            "rcnn_loss/cls": Part(entropy * weights["cls"], positive.numel()),
            "rcnn_loss/iou": Part((overlap * positive).sum() * weights["iou"], positive.numel()),
            "rcnn_loss/reg": Part((distance * positive).sum() * weights["reg"], positive.sum(), floor=1.0),
        }

    def _setting(self, name: str, key: str) -> float:
        return number(dict(section(self.second, name)), key, f"loss.args.stage2.{name}")


def _anchors(hypes: Mapping[str, Any]) -> tuple[str, Tensor]:
    """The order of sizes, and the anchors (K, 7) of one cell.

    Raises:
        ConfigError: the configuration says nothing about anchors.
    """
    postprocess = section(hypes, "postprocess")
    if not postprocess:
        raise ConfigError("postprocess.anchor_args: missing; the loss decodes boxes with the anchors.")
    order = str(postprocess.get("order"))
    return order, torch.from_numpy(anchor_grid(section(postprocess, "anchor_args"), order)[0, 0])
