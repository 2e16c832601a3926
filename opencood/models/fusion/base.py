"""What fusion modules share: maps in the ego's frame, grouped by scene."""

from __future__ import annotations

import torch
from torch import Tensor

from opencood.models.scene import SceneFeatures


def over_agents(logits: Tensor, present: Tensor) -> Tensor:
    """Softmax over agents (axis 1) of (B, L, ...) where ``present`` allows; 0 everywhere where nobody is present.

    Nothing infinite enters the softmax, so that gradients stay finite at cells nobody covers.
    """
    masked = logits.masked_fill(~present, torch.finfo(logits.dtype).min)
    return masked.softmax(dim=1) * present


def slots(scene: SceneFeatures, like: Tensor) -> Tensor:
    """Presence mask shaped to broadcast over (B, L, C, H, W) maps."""
    return scene.presence.to(like.device)[:, :, None, None, None]
