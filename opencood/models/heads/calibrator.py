"""Scores of detectors that were trained apart, brought to a common scale (STAMP; spec homogeneous.md 5)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opencood.registry import register

_EDGE = 1e-6  # keeps exponents above 0, and probabilities off 0 and 1


class Calibrator(nn.Module):
    """Base of all: works on scores; published models hand it logits.

    Args:
        on_logits: as published, in evaluation: powers of negative numbers have no gradient to fit exponents by. False,
            and always in training: logits become probabilities, are calibrated, and become logits again.
    """

    def __init__(self, on_logits: bool = True) -> None:
        super().__init__()
        self.on_logits = on_logits

    def forward(self, logits: Tensor) -> Tensor:
        """(B, A, H, W) to the same shape."""
        if self.on_logits and not self.training:
            return self.calibrated(logits)
        return torch.logit(self.calibrated(torch.sigmoid(logits)), eps=_EDGE)

    def calibrated(self, scores: Tensor) -> Tensor:
        """Scores to scores."""
        raise NotImplementedError


@register("calibrator", "DBS")
class DoublyBoundedScaling(Calibrator):
    """The cumulative Kumaraswamy distribution of the score, with two positive exponents; keys ``_a``, ``_b`` (0-D)."""

    def __init__(self, on_logits: bool = True) -> None:
        super().__init__(on_logits)
        one = math.log(math.expm1(1 - _EDGE))  # what softplus makes a 1 of, but for the edge
        self._a, self._b = nn.Parameter(torch.tensor(one)), nn.Parameter(torch.tensor(one))

    def calibrated(self, scores: Tensor) -> Tensor:
        """1 - (1 - p^a)^b, kept off 0 and 1."""
        a, b = F.softplus(self._a) + _EDGE, F.softplus(self._b) + _EDGE
        return (1 - (1 - scores**a) ** b) * (1 - 2 * _EDGE) + _EDGE


@register("calibrator", "Platt")
class PlattScaling(Calibrator):
    """w p + b; keys ``w``, ``b`` (0-D)."""

    def __init__(self, on_logits: bool = True) -> None:
        super().__init__(on_logits)
        self.w, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))

    def calibrated(self, scores: Tensor) -> Tensor:
        """A line."""
        return self.w * scores + self.b


@register("calibrator", "Temp")
class TemperatureScaling(PlattScaling):
    """The same with b fixed at 0."""

    def __init__(self, on_logits: bool = True) -> None:
        super().__init__(on_logits)
        self.b.requires_grad_(False)
