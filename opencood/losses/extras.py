"""Terms that the methods beside GenComm add to a detection loss, whichever that is (spec gencomm.md 6).

Each is a class to be named before a detection loss among the bases: it takes its own argument and adds its parts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from opencood.losses.parts import Loss, Outputs, Part, Parts, Targets
from opencood.losses.reading import count_samples, in_full_precision, read

REPEATED = 2.0  # the published domain loss is added twice


class WithGeneration(Loss):
    """``generate_weight`` times the mean squared distance of generated features from the agents' own.

    The gradient reaches both: encoders are pulled towards features that are easy to generate.
    """

    def __init__(self, *args: Any, generate_weight: float = 1.0, **rest: Any):
        super().__init__(*args, **rest)
        self.generate_weight = float(generate_weight)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The detection parts and ``generate_loss``; agents by themselves (``_single``) generate nothing."""
        parts = super().parts(outputs, targets, suffix)
        if suffix:
            return parts
        own, generated = read(outputs, "gt_feature"), read(outputs, "pred_feature")
        distance = ((own - generated) ** 2).sum() * self.generate_weight
        return {**parts, "generate_loss": Part(distance, own.numel())}


class WithCodebook(Loss):
    """The model's own ``codebook_loss``."""

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The detection parts and ``codebook_loss``."""
        parts = super().parts(outputs, targets, suffix)
        if suffix:
            return parts
        samples = count_samples(outputs, targets)
        return {**parts, "codebook_loss": Part(read(outputs, "codebook_loss") * samples, samples)}


class WithDomains(Loss):
    """With ``da: true``, and where gradients are wanted, the cross-entropy of telling egos from collaborators.

    It counts twice; the reported term is the single one.
    """

    def __init__(self, *args: Any, da: bool = False, **rest: Any):
        super().__init__(*args, **rest)
        self.adapts = bool(da)

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """The detection parts and ``da_loss``: every cell of an ego is 1, of a collaborator 0."""
        # detections are averaged over scenes here, although the model tells how many agents there are
        parts = super().parts({k: v for k, v in outputs.items() if k != "record_len"}, targets, suffix)
        if suffix or not self.adapts or not torch.is_grad_enabled():
            return parts
        logits = in_full_precision(read(outputs, "da_feature"))
        counts = torch.as_tensor(outputs["record_len"])
        of_ego = torch.zeros(len(logits), device=logits.device)
        of_ego[(counts.cumsum(0) - counts).to(logits.device)] = 1.0
        wanted = of_ego[:, None, None, None].expand_as(logits)
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        return {**parts, "da_loss": Part(entropy, logits.numel(), weight=REPEATED)}


def also_reported(part: Part) -> Part:
    """The same value under a second name, which counts nowhere."""
    return replace(part, weight=0.0, in_total_loss=False)
