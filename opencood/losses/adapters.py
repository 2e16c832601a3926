"""Losses on features instead of detections: STAMP's adapters, PnPDA's contrast. Source: spec gencomm.md section 6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opencood.errors import ConfigError
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import read
from opencood.registry import register


@register("loss", "adapter_loss")
class AdapterLoss(Loss):
    """Distances between features of a type (M) and of the protocol (P) after adapters and reverters.

    Args:
        alpha_P2M: weight of the type's feature against the reverted protocol feature.
        alpha_M2P2M: weight of the type's feature against its own after adapter and reverter.
        alpha_M2P: weight of the protocol's feature against the adapted one.
    """

    def __init__(self, alpha_P2M: float, alpha_M2P2M: float, alpha_M2P: float):
        self.pairs = {
            "P2M": ("FM", "FP2M", float(alpha_P2M)),
            "M2P2M": ("FM", "FM2P2M", float(alpha_M2P2M)),
            "M2P": ("FP", "FM2P", float(alpha_M2P)),
        }

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``P2M``, ``M2P2M``, ``M2P``, reported without their weights."""
        return {
            name: self._distance(read(outputs, wanted), read(outputs, made), weight)
            for name, (wanted, made, weight) in self.pairs.items()
        }

    @staticmethod
    def _distance(wanted: Tensor, made: Tensor, weight: float) -> Part:
        if wanted.shape != made.shape:
            raise ConfigError(
                f"model.args: an adapter or reverter makes maps of {tuple(made.shape[1:])} where "
                f"{tuple(wanted.shape[1:])} are wanted; its channels, ranges and feature shapes must be those of the "
                "maps on both sides."
            )
        return Part(((wanted - made) ** 2).sum(), wanted.numel(), weight=weight)


class AdapterAndTaskLoss(Loss):
    """STAMP's loss of adapters: distances of features, and what each side's own loss says of what it detects.

    Args:
        features: the loss of the features; None where detections alone count.
        tasks: the loss of each type, protocol included, by name.
        protocol: name of the protocol.
    """

    def __init__(self, features: Loss | None, tasks: Mapping[str, Loss], protocol: str) -> None:
        self.features, self.tasks, self.protocol = features, dict(tasks), protocol

    def targets(self, ego: Mapping[str, Any]) -> Mapping[str, Any]:
        """The labels of the type and those of the protocol, of a batch."""
        return {"own": ego["label_dict"], "protocol": ego["label_dict_protocol"]}

    def parts(self, outputs: Outputs, targets: Mapping[str, Any], suffix: str = "") -> Parts:
        """Parts of the features under their names, those of the tasks as ``<type>_<term>``."""
        parts = {} if self.features is None else self.features.parts(outputs, {}, suffix)
        for name, loss in self.tasks.items():
            if name in outputs:
                of_type = targets["protocol" if name == self.protocol else "own"]
                parts |= {f"{name}_{term}": part for term, part in loss.parts(outputs[name], of_type, suffix).items()}
        return parts


@register("loss", "contrastive_learning_loss")
class ContrastiveLoss(Loss):
    """The same object in two feature maps should look alike, and unlike the other objects.

    Args:
        tau: temperature of the similarities.
        max_voxel: cells of an object that count at most; more are drawn at random.
    """

    def __init__(self, tau: float, max_voxel: int):
        self.tau, self.max_voxel = float(tau), int(max_voxel)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Part ``loss``, and mean similarities of equal (``pos_``) and different objects (``neg_``), only reported."""
        regions = targets["pos_region_ranges"].bool()  # (B, M, H, W)
        chosen = self._some_cells(regions)
        queries, keys = (self._means(read(outputs, name, suffix), chosen) for name in ("features_q", "features_k"))
        filled = regions.flatten(2).any(dim=-1)
        queries, keys = queries[filled], keys[filled]
        counted = (queries[:, 0] != 0) & (keys[:, 0] != 0)
        similarity = F.normalize(keys, dim=1) @ F.normalize(queries, dim=1).T  # rows are keys
        labels = torch.arange(len(similarity), device=similarity.device)
        entropy = F.cross_entropy(similarity / self.tau, labels, reduction="none")[counted]
        parts = {"loss": Part(entropy.sum(), counted.sum(), floor=1.0)}
        own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
        for name, values in (("cos", similarity), ("softmax", similarity.softmax(dim=1))):
            parts[f"pos_{name}_sim"] = _shown(values[own])
            parts[f"neg_{name}_sim"] = _shown(values[~own])
        return parts

    def _some_cells(self, regions: Tensor) -> Tensor:
        """At most ``max_voxel`` random cells of every region, (B, M, H W) bool."""
        cells = regions.flatten(2)
        order = torch.rand(cells.shape, device=cells.device).masked_fill(~cells, 2.0).argsort(dim=-1)
        rank = torch.empty_like(order).scatter_(
            -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
        )
        return cells & (rank < self.max_voxel)

    @staticmethod
    def _means(level: Tensor, chosen: Tensor) -> Tensor:
        """Mean feature (B, M, C) over the chosen cells of maps (B, C, H, W); zero without cells."""
        weights = chosen.to(level) / chosen.sum(dim=-1, keepdim=True).clamp(min=1)
        return weights @ level.flatten(2).transpose(1, 2)


def _shown(values: Tensor) -> Part:
    return Part(values.detach().sum(), max(values.numel(), 1), weight=0.0, in_total_loss=False)
