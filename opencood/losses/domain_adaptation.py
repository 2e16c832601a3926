"""Domain adaptation of V2V4Real: two classifiers of domains behind reversed gradients (spec homogeneous.md 3.12)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import read

FEATURE_WIDTH, INSTANCE_WIDTH = 512, 1024
SOURCE, TARGET = 1.0, 0.0


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient is turned round and weighted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


class FeatureHead(nn.Module):
    """The domain of every cell of a map; keys ``conv1_da``, ``conv2_da``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1_da = nn.Conv2d(channels, FEATURE_WIDTH, 1)
        self.conv2_da = nn.Conv2d(FEATURE_WIDTH, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, 1, H, W)."""
        return self.conv2_da(F.relu(self.conv1_da(x)))


class InstanceHead(nn.Module):
    """The domain of every row of pooled class logits; keys ``fc1_da``, ``fc2_da``, ``fc3_da``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1_da = nn.Linear(width, INSTANCE_WIDTH)
        self.fc2_da = nn.Linear(INSTANCE_WIDTH, INSTANCE_WIDTH)
        self.fc3_da = nn.Linear(INSTANCE_WIDTH, 1)
        self.drop = nn.Dropout(0.5)

    def forward(self, rows: Tensor) -> Tensor:
        """(n, width) to logits (n, 1).

        Raises:
            ConfigError: the rows have another width.
        """
        if rows.shape[1] != self.fc1_da.in_features:
            raise ConfigError(
                f"model.args.DA_instance_head: {self.fc1_da.in_features}, but the class map gives {rows.shape[1]} "
                "numbers per row: half its columns times half its anchors."
            )
        hidden = self.drop(F.relu(self.fc1_da(rows)))
        return self.fc3_da(self.drop(F.relu(self.fc2_da(hidden))))


class DomainAdaptation(Loss, nn.Module):
    """What a detector loses where its source and target features can be told apart.

    Args:
        DA_feature_head: channels of the fused map; DA_instance_head: half its columns times half its anchors.
        DA_feature_weight, DA_instance_weight: of the two losses.
        grl_feature_weight, grl_instance_weight: of the reversed gradients.
    """

    def __init__(
        self,
        DA_feature_head: int,
        DA_instance_head: int,
        DA_feature_weight: float,
        DA_instance_weight: float,
        grl_feature_weight: float,
        grl_instance_weight: float,
    ) -> None:
        super().__init__()
        self.feature_head = FeatureHead(DA_feature_head)
        self.instance_head = InstanceHead(DA_instance_head)
        self.weights = {"fea_loss": DA_feature_weight, "ins_loss": DA_instance_weight}
        self.reversal = {"fea_loss": grl_feature_weight, "ins_loss": grl_instance_weight}

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Parts ``fea_loss`` and ``ins_loss`` of the outputs with and without ``target_``."""
        features = {
            label: read(outputs, name) for label, name in ((SOURCE, "source_feature"), (TARGET, "target_feature"))
        }
        logits = {SOURCE: read(outputs, "cls_preds"), TARGET: _target_logits(outputs)}
        told = {
            "fea_loss": {label: self.feature_head(self._turned("fea_loss", x)) for label, x in features.items()},
            "ins_loss": {label: self.instance_head(_rows(self._turned("ins_loss", x))) for label, x in logits.items()},
        }
        return {name: _confusion(by_domain, self.weights[name]) for name, by_domain in told.items()}

    def _turned(self, name: str, x: Tensor) -> Tensor:
        return _Reversal.apply(x, self.reversal[name])


def _target_logits(outputs: Outputs) -> Tensor:
    name = "target_cls_preds" if "target_cls_preds" in outputs else "target_psm"
    return read(outputs, name)


def _rows(logits: Tensor) -> Tensor:
    """Class logits (B, A, H, W), averaged over pairs of columns and of anchors, as rows (B * H, W / 2 * A / 2)."""
    pooled = F.avg_pool2d(logits.permute(0, 2, 3, 1), kernel_size=2, stride=2)
    return pooled.flatten(2).flatten(0, 1)


def _confusion(by_domain: dict[float, Tensor], weight: float) -> Part:
    """Cross-entropy of the domain over everything that was asked in both domains."""
    sums = [
        F.binary_cross_entropy_with_logits(told, torch.full_like(told, label), reduction="sum")
        for label, told in by_domain.items()
    ]
    return Part(torch.stack(sums).sum() * weight, sum(told.numel() for told in by_domain.values()))
