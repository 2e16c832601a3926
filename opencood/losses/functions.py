"""The arithmetic of the anchor losses, on tensors flattened per anchor in the order (y, x, anchor).

Source: spec models.md section 5.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_cross_entropy(logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
    """Element-wise sigmoid focal loss ``a (1 - p_t)^gamma CE`` of logits against labels in {0, 1}, any one shape."""
    probability = torch.sigmoid(logits)
    right = labels * probability + (1 - labels) * (1 - probability)
    balance = labels * alpha + (1 - labels) * (1 - alpha)
    return balance * (1 - right) ** gamma * F.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def smooth_l1(difference: Tensor, sigma: float) -> Tensor:
    """Element-wise ``0.5 (sigma d)^2`` below the threshold 1/sigma^2, ``|d| - 0.5/sigma^2`` above."""
    beta = 1.0 / sigma**2
    size = difference.abs()
    return torch.where(size <= beta, 0.5 * size**2 / beta, size - 0.5 * beta)


def sine_difference(predicted: Tensor, target: Tensor) -> Tensor:
    """Residuals (..., 7) minus target residuals, with sin(p - t) in place of the yaw difference."""
    p, t = predicted[..., 6:7], target[..., 6:7]
    yaw = torch.sin(p) * torch.cos(t) - torch.cos(p) * torch.sin(t)
    return torch.cat([predicted[..., :6] - target[..., :6], yaw], dim=-1)


def depth_focal(logits: Tensor, bins: Tensor, smooth: bool = False) -> Tensor:
    """Per-pixel depth loss ``-0.25 (1 - p_t)^2 log p_t`` of logits (n, D, h, w) against bins (n, h, w), shape (n, h,
    w).

    With ``smooth`` the one-hot target is convolved along D with [0.2, 0.9, 0.2]. Source: models.md 5.2.
    """
    log_p = F.log_softmax(logits, dim=1)
    focal = -0.25 * (1 - log_p.exp()) ** 2 * log_p
    if not smooth:
        return focal.gather(1, bins.long().unsqueeze(1)).squeeze(1)
    one_hot = F.one_hot(bins.long(), logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
    below, above = F.pad(one_hot[:, 1:], (0, 0, 0, 0, 0, 1)), F.pad(one_hot[:, :-1], (0, 0, 0, 0, 1, 0))
    return (focal * (0.9 * one_hot + 0.2 * (below + above))).sum(dim=1)


def channel_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Summed KL(teacher || student) of features (N, C, H, W), each cell a softmax over its channels."""
    log_student, log_teacher = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
