"""A loss as a sum of averages, so that several processes can share one exact average.

Published losses divide by the batch, by the pixels of a depth map, by the elements of a feature. A rank of a
distributed run knows only its own share of these counts. A loss therefore returns *parts*, each a sum and the count
it is divided by; one process divides by its own counts, a distributed run by the counts of all ranks, which gives the
loss of the concatenated batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Outputs = Mapping[str, Any]
Targets = Mapping[str, Tensor]


@dataclass(frozen=True)
class Part:
    """``weight * total / max(count + offset, floor)``, one additive share of a loss.

    Args:
        total: weighted sum over everything this process sees, scalar tensor.
        count: what the sum is averaged over (samples, agents, pixels, positives).
        floor: smallest divisor.
        offset: added to the count (published losses write it as an epsilon).
        weight: factor in the loss that the reported term does not show (most published terms are reported weighted:
            their ``total`` holds the weight).
        in_total_loss: whether the reported ``total_loss`` holds this part (the depth term is not in it, models.md 5.2).
    """

    total: Tensor
    count: float | Tensor
    floor: float = 0.0
    offset: float = 0.0
    weight: float = 1.0
    in_total_loss: bool = True

    def value(self, count: float | Tensor | None = None) -> Tensor:
        """The unweighted average, over ``count`` instead of the own count when given."""
        divisor = (self.count if count is None else count) + self.offset
        if isinstance(divisor, Tensor):
            return self.total / divisor.clamp(min=self.floor)
        return self.total / (max(divisor, self.floor) or 1.0)


Parts = dict[str, Part]


def combine(parts: Parts, counts: Mapping[str, float] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the parts up.

    Args:
        parts: by ``term`` or ``term/detail``; several parts of one term are reported as their sum.
        counts: divisors by the same keys, such as the counts of all ranks; None means the own counts.

    Returns:
        the loss to back-propagate (scalar) and the reported terms, ``total_loss`` among them, as detached scalars.
    """
    values = {key: part.value(None if counts is None else counts[key]) for key, part in parts.items()}
    weighted = {key: value * parts[key].weight for key, value in values.items()}
    loss = torch.stack(list(weighted.values())).sum()
    terms: dict[str, Tensor] = {}
    for key, value in values.items():
        term = key.partition("/")[0]
        terms[term] = terms.get(term, 0.0) + value.detach()
    reported = [value.detach() for key, value in weighted.items() if parts[key].in_total_loss]
    terms["total_loss"] = torch.stack(reported).sum() if reported else torch.zeros_like(loss).detach()
    return loss, terms


class Loss:
    """Base of all losses: a subclass gives ``parts``, calling the object adds them up."""

    def parts(self, outputs: Outputs, targets: Targets, suffix: str = "") -> Parts:
        """Return the parts of this loss; ``suffix`` selects outputs such as ``cls_preds_single``."""
        raise NotImplementedError

    def __call__(self, outputs: Outputs, targets: Targets, suffix: str = "") -> tuple[Tensor, dict[str, Tensor]]:
        """Return (loss to back-propagate, reported terms by their published names)."""
        return combine(self.parts(outputs, targets, suffix))

    def combine(self, parts: Parts, counts: Mapping[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the parts up with the counts of all ranks of a distributed run; see ``combine``."""
        return combine(parts, counts)
