"""CodeFilling's communication mask: which cells are worth sending (spec gencomm.md 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError
from opencood.models.scene import SceneFeatures
from opencood.models.smoothing import gaussian_filter

METHODS = ("max", "sum")


class CommunicationMask(nn.Module):
    """Confidence above a threshold, and perhaps a selection among the agents; keys ``gaussian_filter.*``.

    Args:
        thre: a cell is sent when its (smoothed) confidence is above this.
        gaussian_smooth: {k_size, c_sigma} of the smoothing; None compares the confidence as it is.
        solver: {thre, method}: the ego keeps, cell by cell, the most confident agents (``max``), or collaborators in
            decreasing confidence as long as the sum, the ego's included, is below ``thre`` (``sum``).

    Raises:
        ConfigError: an unknown method.
    """

    def __init__(
        self,
        thre: float,
        gaussian_smooth: Mapping[str, Any] | None = None,
        solver: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.threshold = thre
        if gaussian_smooth:
            self.gaussian_filter = gaussian_filter(gaussian_smooth["k_size"], gaussian_smooth["c_sigma"])
        self.solver = solver
        if solver and solver.get("method") not in METHODS:
            raise ConfigError(
                f"model.args.communication.solver.method: '{solver.get('method')}' is none of {', '.join(METHODS)}."
            )

    @staticmethod
    def confidence(logits: Tensor) -> Tensor:
        """Class logits (N, A, H, W) to the confidence (N, 1, H, W) that something is there."""
        return logits.sigmoid().amax(dim=1, keepdim=True)

    def worth_sending(self, confidence: Tensor) -> Tensor:
        """Mask (N, 1, H, W) of the cells whose confidence (N, 1, H, W) is above the threshold."""
        smooth = self.gaussian_filter(confidence) if hasattr(self, "gaussian_filter") else confidence
        return smooth > self.threshold

    def selected(self, confidence: Tensor, scene: SceneFeatures) -> Tensor:
        """Selection (N, 1, H, W) among the agents of each scene, in their own frames; fractional at cell borders.

        All ones without a solver.
        """
        if not self.solver:
            return torch.ones_like(confidence)
        seen = scene.pad(scene.to_ego(confidence), fill=-1.0)  # (B, L, 1, H, W), nobody where slots are empty
        kept = _largest(seen) if self.solver["method"] == "max" else _up_to(seen, self.solver["thre"])
        return scene.from_ego(kept.to(confidence)[scene.places])

    @staticmethod
    def rate(mask: Tensor, scene: SceneFeatures) -> Tensor:
        """Share of the collaborators' cells that are sent, the mean over scenes; 0 for an ego without collaborators."""
        counts = torch.tensor(scene.record_len, device=mask.device)
        share = scene.pad(mask.to(torch.float32)).mean(dim=(2, 3, 4))  # (B, L), 0 in empty slots
        return (share[:, 1:].sum(dim=1) / (counts - 1).clamp(min=1)).mean()


def _largest(seen: Tensor) -> Tensor:
    return seen == seen.amax(dim=1, keepdim=True)


def _up_to(seen: Tensor, limit: float) -> Tensor:
    """The ego, and collaborators in decreasing confidence as long as the sum is below the limit; (B, L, 1, H, W)."""
    ego, others = seen[:, :1], seen[:, 1:]
    ordered, order = others.sort(dim=1, descending=True)
    kept = (ego + ordered.clamp(min=0).cumsum(dim=1) < limit) & (ordered >= 0)
    return torch.cat([torch.ones_like(ego, dtype=torch.bool), torch.zeros_like(kept).scatter(1, order, kept)], dim=1)
