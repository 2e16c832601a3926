"""Choosing one word by its logits so that gradients pass: straight-through, with or without Gumbel noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# From logits to numbers in (0, 1) of their shape; a test may put in its own.
Uniforms = Callable[[Tensor], Tensor]


def straight_through(logits: Tensor, dim: int, uniforms: Uniforms | None = None) -> Tensor:
    """One-hot choices along ``dim`` with the gradient of their softmax, both of temperature 1.

    Args:
        logits: any shape.
        uniforms: where the draws come from; None takes the largest logit, without noise.
    """
    if uniforms is not None:
        least = torch.finfo(logits.dtype).eps
        logits = logits - (-uniforms(logits).clamp(least, 1 - least).log()).log()
    soft = logits.softmax(dim)
    hard = torch.zeros_like(soft).scatter(dim, soft.argmax(dim, keepdim=True), 1.0)
    return hard + soft - soft.detach() if soft.requires_grad else hard


class LowerBound(torch.autograd.Function):
    """max(x, bound), where a gradient that would raise x passes below the bound too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: Tensor) -> Tensor:
        """Clamp from below."""
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient where x is above the bound, or would rise."""
        x, bound = ctx.saved_tensors
        return gradient * ((x >= bound) | (gradient < 0)), None
