"""Losses of code spaces: detection, and how alike agents of different modality see a place (spec codealign.md 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from opencood.config.flavor import quirk
from opencood.errors import ConfigError, nearest
from opencood.losses.center_point import CenterPointLoss
from opencood.losses.code_instances import instance_similarity
from opencood.losses.code_terms import TERMS, cosine_map, pixel_similarity
from opencood.losses.parts import Outputs, Part, Parts, Targets
from opencood.losses.point_pillar import PointPillarLoss, PointPillarPyramidLoss
from opencood.losses.reading import count_samples, in_full_precision, number
from opencood.registry import register

WHERE = "loss.args.codebook"
# How the terms are reported.
REPORTED = {"ReconstructionLoss": "recon_loss", "PixelSimLoss": "pixelsim_loss", "InstanceSimLoss": "instancesim_loss"}
REPORTED |= {name: f"{name}_loss" for name in TERMS}


@register("loss", "point_pillar_pyramid_codebook_loss", ignores=["iou"])
class PointPillarPyramidCodebookLoss(PointPillarPyramidLoss):
    """The pyramid loss plus terms of the code space.

    Args:
        codebook: by term {weight, ...}: ReconstructionLoss, l2, smoothl1, cosine, mmd, coral, js, mahalanobis,
            PixelSimLoss {mode, foreground_weight, background_weight}, InstanceSimLoss {pool_size, temperature}.
        detection_fix: leave the detection parts out.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        pyramid: dict[str, Any],
        codebook: dict[str, Any],
        dir: dict[str, Any] | None = None,
        depth: dict[str, Any] | None = None,
        detection_fix: bool = False,
        hypes: Mapping[str, Any] | None = None,
    ):
        super().__init__(pos_cls_weight, cls, reg, pyramid, dir, depth, hypes)
        for name in codebook:
            if name not in REPORTED:
                raise ConfigError(f"{WHERE}: unknown term '{name}'.{nearest(name, REPORTED)}")
        self.terms = {name: dict(section) for name, section in codebook.items()}
        self.weights = {name: number(section, "weight", f"{WHERE}.{name}") for name, section in self.terms.items()}
        self.detection_fix = detection_fix
        self.flat_modalities = quirk(hypes or {}, "code_terms_flat_modalities")
        self.columns_first = quirk(hypes or {}, "gt_boxes_transposed")

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The parts of the pyramid loss, and without a suffix one per term, and ``codebook_loss``, their sum."""
        if suffix:
            return super().parts(outputs, targets, suffix)
        parts = {} if self.detection_fix else super().parts(outputs, targets)
        terms = {REPORTED[name]: self.term(name, outputs, targets) for name in self.terms}
        together = torch.stack([part.value() * part.weight for part in terms.values()]).sum()
        # only reported: its summands are parts of their own
        return {**parts, **terms, "codebook_loss": Part(together.detach(), 1, weight=0.0)}

    def term(self, name: str, outputs: Outputs, targets: Targets) -> Part:
        """One term as a part."""
        weight = self.weights[name]
        if name == "ReconstructionLoss":
            return replace(reconstruction(outputs, targets), weight=weight)
        if name == "PixelSimLoss":
            return replace(self._pixels(outputs, targets), weight=weight)
        if name == "InstanceSimLoss":
            return replace(self._instances(outputs, targets), weight=weight)
        pairs = self._pairs(outputs, of_ego=True)
        return _mean([TERMS[name](maps[i], maps[j], masks[j]) for _, maps, masks, i, j in pairs], outputs, weight)

    def _pixels(self, outputs: Outputs, targets: Targets) -> Part:
        section, where = self.terms["PixelSimLoss"], f"{WHERE}.PixelSimLoss"
        mode = str(section.get("mode", "all"))
        if mode not in ("all", "mean"):
            raise ConfigError(f"{where}.mode: '{mode}' is neither all nor mean.")
        weight = _cell_weights(section, targets, where)
        samples = [s for s in zip(weight, *_seen(outputs), strict=True) if len(s[1]) > 1]
        return _mean([pixel_similarity(maps, masks, cells, mode) for cells, maps, masks in samples], outputs)

    def _instances(self, outputs: Outputs, targets: Targets) -> Part:
        section, where = self.terms["InstanceSimLoss"], f"{WHERE}.InstanceSimLoss"
        size = int(section.get("pool_size", 9))
        temperature = number(section, "temperature", where)
        values = []
        for sample, maps, _, i, j in self._pairs(outputs, of_ego=False):
            boxes = torch.as_tensor(targets["gt_boxes"][sample], device=maps.device)
            if not self.columns_first:
                boxes = boxes[:, [1, 0, 3, 2]]
            values.append(instance_similarity(maps[i], maps[j], boxes, size, temperature))
        return _mean(values, outputs)

    def _pairs(self, outputs: Outputs, of_ego: bool) -> Iterator[tuple[int, Tensor, Tensor, int, int]]:
        """Sample, its maps and masks, and two of its agents of different modality, in every sample."""
        every = enumerate(zip(*_seen(outputs), strict=True))
        names = outputs["agent_modality_list"]
        first = 0
        for sample, (maps, masks) in every:
            own = names if self.flat_modalities else names[first : first + len(maps)]
            first += len(maps)
            for i, j in combinations(range(len(maps)), 2):
                if own[i] != own[j] and (i == 0 or not of_ego):
                    yield sample, maps, masks, i, j


class PointPillarCodebookLoss(PointPillarLoss):
    """The anchor loss plus one term of the code space.

    Args:
        codebook: {type: RecLoss or BalancedSimilarityLoss, weight, foreground_weight, background_weight}.
    """

    def __init__(
        self,
        pos_cls_weight: float,
        cls: dict[str, Any],
        reg: dict[str, Any],
        codebook: dict[str, Any],
        dir: dict[str, Any] | None = None,
    ):
        super().__init__(pos_cls_weight, cls, reg, dir)
        kinds: dict[str, Callable[[Outputs, Targets], Part]] = {
            "RecLoss": reconstruction,
            "BalancedSimilarityLoss": self._balanced,
        }
        kind = str(codebook.get("type"))
        if kind not in kinds:
            raise ConfigError(f"{WHERE}.type: '{kind}' is none of {', '.join(kinds)}.")
        self.section, self.term = codebook, kinds[kind]
        self.weight = number(codebook, "weight", WHERE)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The anchor parts and ``codebook_loss``, reported without its weight."""
        parts = super().parts(outputs, targets, suffix)
        return {**parts, "codebook_loss": replace(self.term(outputs, targets), weight=self.weight)}

    def _balanced(self, outputs: Outputs, targets: Targets) -> Part:
        weights = _cell_weights(self.section, targets, WHERE)
        only_positive = number(self.section, "background_weight", WHERE) == 0
        values = []
        for cells, features in zip(weights, outputs["codebook_features_trans"], strict=True):
            maps = in_full_precision(features)
            if len(maps) < 2:
                continue
            first, second = torch.triu_indices(len(maps), len(maps), offset=1).unbind()
            alike = cosine_map(maps[first], maps[second]) * cells
            values.append(1 - (alike[alike > 0] if only_positive else alike).mean())
        return _mean(values, outputs, like=weights)


@register("loss", "center_point_codebook_loss")
class CenterPointCodebookLoss(CenterPointLoss):
    """The CenterPoint loss plus the reconstruction of the code space.

    Args:
        codebook_weight: weight of ``codebook_loss``.
        detection_fix: leave the detection parts out.
        detection_loss_codebook: the raw outputs with and without the code space are to be equal.
    """

    def __init__(
        self,
        cls_weight: float,
        loc_weight: float,
        code_weights: list[float],
        target_assigner_config: dict[str, Any],
        codebook_weight: float = 1.0,
        detection_fix: bool = False,
        detection_loss_codebook: bool = False,
    ):
        super().__init__(cls_weight, loc_weight, code_weights, target_assigner_config)
        self.codebook_weight = float(codebook_weight)
        self.detection_fix, self.compares = detection_fix, detection_loss_codebook

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The CenterPoint parts, ``codebook_loss``, and the differences ``cls_cb_loss``, ``bbox_cb_loss``."""
        parts = super().parts(outputs, targets, suffix)
        if self.detection_fix:
            parts = {name: replace(part, weight=0.0) for name, part in parts.items()}
        loss = _codebook_loss(outputs)
        samples = len(outputs["cls_preds" + suffix])
        parts["codebook_loss"] = Part(loss * samples, samples, weight=self.codebook_weight)
        for term, name in (("cls_cb_loss", "cls"), ("bbox_cb_loss", "bbox")) if self.compares else ():
            square = (outputs[f"{name}_preds"] - outputs[f"{name}_wo_channel_compression"]).square()
            parts[term] = Part(square.sum(), square.numel(), in_total_loss=False)
        return parts


def reconstruction(outputs: Outputs, targets: Targets) -> Part:
    """What decoding lost, as the detector measured it."""
    samples = count_samples(outputs, targets)
    return Part(_codebook_loss(outputs) * samples, samples)


def _codebook_loss(outputs: Outputs) -> Tensor:
    if outputs.get("codebook_loss") is None:
        raise ConfigError(
            "loss.core_method: the loss needs the output 'codebook_loss', which only a detector with a code space "
            "gives (model.args.codebook)."
        )
    return torch.as_tensor(outputs["codebook_loss"])


def _seen(outputs: Outputs) -> tuple[list[Tensor], list[Tensor]]:
    """Per sample the agents' maps (N, C, H, W) in the ego's view, and where they are (N, H, W).

    Raises:
        ConfigError: the detector does not give them.
    """
    if "single_feature_warped" not in outputs:
        raise ConfigError(
            "loss.args.codebook: the terms that compare agents need the output 'single_feature_warped'; set "
            "model.args.pixel_sim to true."
        )
    maps = [in_full_precision(level) for level in outputs["single_feature_warped"]]
    return maps, [mask.to(level) for mask, level in zip(outputs["single_warp_mask"], maps, strict=True)]


def _cell_weights(section: Mapping[str, Any], targets: Targets, where: str) -> Tensor:
    """(B, H, W): one weight where any anchor is positive, another elsewhere."""
    inside, outside = (number(dict(section), f"{part}_weight", where) for part in ("foreground", "background"))
    object_cells = targets["pos_equal_one"].amax(dim=-1) > 0
    weights = targets["targets"].new_full(object_cells.shape, outside, dtype=torch.float32)
    return weights.masked_fill(object_cells, inside)


def _mean(values: list[Tensor], outputs: Outputs, weight: float = 1.0, like: Tensor | None = None) -> Part:
    """The mean of values; 0 when there are none."""
    if not values:
        nothing = like if like is not None else _seen(outputs)[0][0]
        return Part(nothing.sum() * 0, 0, weight=weight)
    return Part(torch.stack(values).sum(), len(values), weight=weight)
