"""Where2comm of OpenCOOD: attention on masked maps, at one scale or at every level (spec homogeneous.md 3.8).

Which cells are masked is the link's business; what it asks, how sure an agent is of a cell, is answered here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from opencood.models.fusion.attention import AttFusion
from opencood.models.scene import SceneFeatures
from opencood.models.smoothing import gaussian_filter


class Confidence(nn.Module):
    """The largest class probability of a cell, smoothed; key ``gaussian_filter`` where there is smoothing.

    Args:
        size: side of the filter in cells, None for none; sigma: its width (over which, not over whose square, the
            published filter divides).
    """

    def __init__(self, size: int | None = None, sigma: float = 1.0) -> None:
        super().__init__()
        self.gaussian_filter: nn.Conv2d | None = None
        if size is not None:
            self.gaussian_filter = gaussian_filter(size, sigma)

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (N, A, H, W) of the anchors to (N, 1, H, W)."""
        confidence = logits.sigmoid().amax(dim=1, keepdim=True)
        return confidence if self.gaussian_filter is None else self.gaussian_filter(confidence)


class Where2commLevels(nn.Module):
    """The attention of every level, without parameters, and the confidence; keys ``naive_communication.*``."""

    def __init__(self, widths: Sequence[int], size: int | None, sigma: float) -> None:
        super().__init__()
        self.naive_communication = Confidence(size, sigma)
        self.fuse_modules = nn.ModuleList(AttFusion(width) for width in widths)

    def forward(self, scene: SceneFeatures) -> Tensor:
        """Maps (N, C, H, W) of the only scale to the egos' (B, C, H, W)."""
        (attention,) = self.fuse_modules
        return attention(scene)
