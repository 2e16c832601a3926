"""The anchor loss and what the published detectors add to it: depth, occupancy pyramid, distillation.

Source: spec models.md sections 5.1 to 5.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from opencood.config.flavor import flavor_of
from opencood.errors import ConfigError
from opencood.geometry.coding import direction_bins, flatten_head
from opencood.losses import functions as f
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import count_samples, in_full_precision, number, read
from opencood.registry import register

# Suffix of the outputs of agents by themselves.
SINGLE = "_single"


@register("loss", "point_pillar_loss", ignores=["depth", "iou"])
class PointPillarLoss(Loss):
    """Focal classification, sine smooth-L1 regression, direction bins.

    Args:
        pos_cls_weight: weight of positive anchors in the classification.
        cls: {alpha, gamma, weight}.
        reg: {sigma, weight}.
        dir: {weight, args: {dir_offset, num_bins, anchor_yaw in degrees}}, or None without a direction head.
    The keys ``type`` and ``codewise`` of published files say nothing that could differ and are not read.
    """

    def __init__(
        self, pos_cls_weight: float, cls: dict[str, Any], reg: dict[str, Any], dir: dict[str, Any] | None = None
    ):
        self.pos_cls_weight = float(pos_cls_weight)
        self.alpha, self.gamma, self.cls_weight = (
            number(cls, k, "loss.args.cls") for k in ("alpha", "gamma", "weight")
        )
        self.sigma, self.reg_weight = (number(reg, k, "loss.args.reg") for k in ("sigma", "weight"))
        self.direction = _Direction(dir) if dir else None

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``cls_loss``, ``reg_loss`` and, with a direction section, ``dir_loss``."""
        logits = flatten_head(read(outputs, "cls_preds", suffix), 1).squeeze(-1)
        residuals = flatten_head(read(outputs, "reg_preds", suffix), 7)
        positive, negative = _flags(targets, logits)
        samples = count_samples(outputs, targets)

        # Boxes and directions weigh nothing elsewhere, and positive anchors are few.
        chosen = positive.nonzero(as_tuple=True)
        share = (positive / positive.sum(dim=1, keepdim=True).clamp(min=1.0))[chosen]
        wanted = targets["targets"].reshape(*positive.shape, 7)[chosen].to(residuals)
        distance = f.smooth_l1(f.sine_difference(residuals[chosen], wanted), self.sigma)

        classes = self.classification(logits, positive, negative).sum() * self.cls_weight
        boxes = (distance * share.unsqueeze(-1)).sum() * self.reg_weight
        parts = {"cls_loss": Part(classes, samples), "reg_loss": Part(boxes, samples)}
        if self.direction:
            turns = flatten_head(read(outputs, "dir_preds", suffix), self.direction.num_bins)[chosen]
            entropy = self.direction.entropy(turns, wanted[:, 6], anchors=chosen[1])
            parts["dir_loss"] = Part((entropy * share).sum() * self.direction.weight, samples)
        return parts

    def classification(self, logits: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Focal loss of (B, N) logits; an anchor that is neither positive nor negative has no weight."""
        weights = self.pos_cls_weight * positive + negative
        weights = weights / positive.sum(dim=1, keepdim=True).clamp(min=1.0)
        return f.focal_cross_entropy(logits, positive, self.alpha, self.gamma) * weights


class _Direction:
    """The direction section: which angle bins the anchors' targets fall into."""

    def __init__(self, section: dict[str, Any]):
        args = section.get("args", {})
        self.weight = number(section, "weight", "loss.args.dir")
        self.offset = number(args, "dir_offset", "loss.args.dir.args")
        self.num_bins = int(number(args, "num_bins", "loss.args.dir.args"))
        self.anchor_yaw = [math.radians(angle) for angle in args.get("anchor_yaw", ())]
        if not self.anchor_yaw:
            raise ConfigError(
                "loss.args.dir.args.anchor_yaw: expected the anchors' angles in degrees, such as [0, 90]."
            )

    def entropy(self, logits: Tensor, residual_yaw: Tensor, anchors: Tensor) -> Tensor:
        """Cross-entropy (P,) of logits (P, bins); the yaw is the residual (P,) plus that of its anchor."""
        yaws = residual_yaw.new_tensor(self.anchor_yaw)
        bins = direction_bins(residual_yaw + yaws[anchors % len(yaws)], self.num_bins, self.offset)
        return F.cross_entropy(logits, bins, reduction="none")


@register("loss", "point_pillar_depth_loss", ignores=["iou"])
class PointPillarDepthLoss(PointPillarLoss):
    """The anchor loss plus a focal loss on every camera's depth bins.

    Args:
        depth: {weight, smooth_target (false), use_fg_mask (false)}.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        dir: dict[str, Any] | None = None,
        depth: dict[str, Any] | None = None,
    ):
        super().__init__(pos_cls_weight, cls, reg, dir)
        section = depth or {"weight": 0.0}
        self.depth_weight = number(section, "weight", "loss.args.depth")
        self.smooth_target = bool(section.get("smooth_target", False))
        self.use_fg_mask = bool(section.get("use_fg_mask", False))

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The anchor parts and one ``depth_loss`` part per modality with ``depth_items``; zero when there is none."""
        parts = super().parts(outputs, targets, suffix)
        found = {str(k): outputs[k] for k in outputs if str(k).startswith(f"depth_items{suffix}")}
        for key, items in found.items():
            parts[f"depth_loss/{key}"] = self.depth_part(key, items)
        # The published log shows the term even where there is no camera.
        nothing = parts["cls_loss"].total.new_zeros(())
        parts["depth_loss"] = Part(nothing, parts["cls_loss"].count, in_total_loss=False)
        return parts

    def depth_part(self, key: str, items: Any) -> Part:
        """Depth loss of one modality's (logits (n, D, h, w), bins (n, h, w)[, foreground (n, h, w)]).

        Raises:
            ConfigError: ``use_fg_mask`` although the encoder gives no foreground mask.
        """
        pixels = f.depth_focal(in_full_precision(items[0]), items[1], self.smooth_target)
        if self.use_fg_mask:
            if len(items) < 3:
                raise ConfigError(
                    f"loss.args.depth.use_fg_mask: '{key}' comes without a foreground mask. Set it to false."
                )
            pixels = pixels * (3.0 * items[2].to(pixels.dtype) + 0.25)
        return Part(pixels.sum() * self.depth_weight, pixels.numel(), in_total_loss=False)


@register("loss", "point_pillar_pyramid_loss", ignores=["iou"])
class PointPillarPyramidLoss(PointPillarDepthLoss):
    """The anchor and depth loss plus a focal loss on the occupancy maps of the feature pyramid.

    Args:
        pyramid: {relative_downsample: [..], weight: [..]}, one entry per pyramid level.
        hypes: the configuration, of which the flavor counts: CodeAlign takes any suffix but ``_single`` for none.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        pyramid: dict[str, Any],
        dir: dict[str, Any] | None = None,
        depth: dict[str, Any] | None = None,
        hypes: Mapping[str, Any] | None = None,
    ):
        super().__init__(pos_cls_weight, cls, reg, dir, depth)
        self.only_single_has_suffix = hypes is not None and flavor_of(hypes) == "codealign"
        self.levels = list(zip(pyramid["relative_downsample"], pyramid["weight"], strict=True))

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Anchor, depth and ``pyramid_loss`` parts, as the output ``pyramid`` ('single' or 'collab') asks for."""
        collaborative = outputs.get("pyramid") == "collab"
        if self.only_single_has_suffix and suffix not in ("", SINGLE):
            suffix = ""
        if collaborative and suffix:
            return self._with_zeros(self.occupancy_parts(outputs, targets))
        parts = super().parts(outputs, targets, suffix)
        if collaborative:
            return self._with_zeros(parts)
        counted = {key: replace(part, in_total_loss=True) for key, part in parts.items()}
        return {**counted, **self.occupancy_parts(outputs, targets)}

    def _with_zeros(self, parts: Parts) -> Parts:
        """CodeAlign's log shows both terms, whichever of them there is."""
        if not self.only_single_has_suffix:
            return parts
        nothing = next(iter(parts.values())).total.new_zeros(())
        zeros = {name: Part(nothing, 1, in_total_loss=False) for name in ("pyramid_loss", "depth_loss")}
        return {**zeros, **parts}

    def occupancy_parts(self, outputs: Outputs, targets: Targets) -> Parts:
        """One ``pyramid_loss`` part per level; targets (N, H, W, A) are pooled to each level's grid."""
        positive = targets["pos_equal_one"].amax(dim=-1).unsqueeze(1)
        negative = targets["neg_equal_one"].amin(dim=-1).unsqueeze(1)
        if "occ_single_list" not in outputs:
            raise ConfigError(
                "loss.core_method: the loss needs the output 'occ_single_list', which the model does not give."
            )
        maps = [in_full_precision(level) for level in outputs["occ_single_list"]]
        if len(maps) != len(self.levels):
            raise ConfigError(
                f"loss.args.pyramid: {len(self.levels)} levels are listed, the model gives {len(maps)} occupancy maps."
            )
        parts = {}
        for index, (logits, (ratio, weight)) in enumerate(zip(maps, self.levels, strict=True)):
            occupied = F.max_pool2d(positive.to(logits.dtype), ratio).flatten(1)
            empty = 1 - F.max_pool2d(1 - negative.to(logits.dtype), ratio).flatten(1)
            level = self.classification(logits.flatten(1), occupied, empty).sum() * weight
            parts[f"pyramid_loss/{index}"] = Part(level, logits.shape[0])
        return parts


@register("loss", "point_pillar_disconet_loss", ignores=["iou"])
class PointPillarDisconetLoss(PointPillarLoss):
    """The anchor loss plus the divergence of the student's features from the teacher's.

    Args:
        kd: {weight, decoder_kd (false): also compare the class and regression maps}.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        kd: dict[str, Any],
        dir: dict[str, Any] | None = None,
    ):
        super().__init__(pos_cls_weight, cls, reg, dir)
        self.kd_weight = number(kd, "weight", "loss.args.kd")
        self.compared = ("feature", "reg_preds", "cls_preds") if kd.get("decoder_kd") else ("feature",)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The anchor parts and one ``kd_loss`` part per compared map, averaged over all elements."""
        parts = super().parts(outputs, targets, suffix)
        for name in self.compared:
            student, teacher = read(outputs, name, suffix), read(outputs, f"teacher_{name}", suffix)
            part = Part(f.channel_divergence(student, teacher) * self.kd_weight, student.numel())
            parts[f"kd_loss/{name}"] = part
        return parts


def _flags(targets: Targets, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which anchors are positive and which negative, (B, N) each, in the precision of the predictions."""
    batch = targets["pos_equal_one"].shape[0]
    positive = targets["pos_equal_one"].reshape(batch, -1).to(like)
    negative = targets["neg_equal_one"].reshape(batch, -1).to(like)
    if positive.shape != like.shape:
        raise ConfigError(
            f"model and postprocess disagree: predictions for {tuple(like.shape)} (samples, anchors), "
            f"targets for {tuple(positive.shape)}. Check anchor_number, feature_stride and the ranges."
        )
    return positive, negative
