"""How every agent sees the map of every other: HM-ViT's warp and masks (spec hmvit.md 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from opencood.geometry.warp import normalize_pairwise, pixel_sampling


@dataclass(frozen=True)
class Views:
    """Computed once per forward pass; it depends on poses alone.

    Attributes:
        grid: (B, receivers, L, H, W, 2) where to sample the sender's map.
        covered: (B, receivers, L, H, W) whether a present sender covers the receiver's cell.
    """

    grid: Tensor
    covered: Tensor

    @classmethod
    def of(cls, pairwise: Tensor, present: Tensor, size: tuple[int, int], cell: float, by_pixels: bool = True) -> Views:
        """The views among L agents in each of B scenes.

        Args:
            pairwise: (B, L, L, 4, 4), [b, i, j] from agent i to agent j, in metres.
            present: (B, L).
            size: (H, W) of the maps; cell: metres of a cell.
            by_pixels: turn about W / 2, H / 2 in pixels, with masks of nearest cells (``warpslow``); else by the warp
                of HEAL with aligned corners, with masks of everything a sender touches.
        """
        height, width = size
        if by_pixels:
            theta = pixel_sampling(pairwise.transpose(1, 2), cell, size)
        else:
            theta = normalize_pairwise(pairwise, height * cell, width * cell)
        flat = theta.flatten(0, 2)
        grid = F.affine_grid(flat, [len(flat), 1, height, width], align_corners=True)
        ones = grid.new_ones(len(flat), 1, height, width)
        mode = "nearest" if by_pixels else "bilinear"
        inside = F.grid_sample(ones, grid, mode=mode, padding_mode="zeros", align_corners=True) > 0
        shape = pairwise.shape[:3]
        return cls(grid.unflatten(0, shape), inside[:, 0].unflatten(0, shape) & present[:, None, :, None, None])

    def first(self, receivers: int) -> Views:
        """What the first ``receivers`` agents of every scene see."""
        return Views(self.grid[:, :receivers], self.covered[:, :receivers])

    def fetch(self, x: Tensor) -> Tensor:
        """Maps (B, L, H, W, C) of the senders, as each receiver sees them: (B, receivers, L, H, W, C)."""
        batch, receivers, senders = self.grid.shape[:3]
        maps = x.permute(0, 1, 4, 2, 3)[:, None].expand(-1, receivers, -1, -1, -1, -1).flatten(0, 2)
        grid = self.grid.flatten(0, 2).to(maps)
        seen = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        return seen.view(batch, receivers, senders, *seen.shape[1:]).permute(0, 1, 2, 4, 5, 3)
