"""What is hidden: a drawn share of the cells of the map, or of the voxels, of all agents or of each (spec coopre.md 2).

Everything works on voxels ``voxel_features`` (N, P, F), ``voxel_coords`` (N, 4) [sample, z, y, x] and
``voxel_num_points`` (N,); ``voxel_agents`` (N, P) tells whose points they are (0: the ego), where that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opencood.config.pretrain import MaskSettings
from opencood.errors import DataError

Voxels = Mapping[str, Tensor]
EVALUATION_SEED = 0  # validation hides the same cells of a batch every time
MOST_AGENTS = 256  # of a sample
OWNERS = "voxel_agents"


class Masking(nn.Module):
    """Draws what is hidden. In training the global generator draws, which is seeded anew for every step.

    Args:
        settings: unit, whose points, share, scope.
        stride: voxels along a side of a cell of the decoder's map.
        grid: voxels along y and x.

    Attributes:
        draw: gives so many numbers from [0, 1); those with the smallest are kept.
    """

    def __init__(self, settings: MaskSettings, stride: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.settings = settings
        self.side = stride * settings.grid
        self.cells = tuple(-(-side // self.side) for side in grid)
        self.draw: Callable[[int], Tensor] = self._draw

    def forward(self, voxels: Voxels) -> Tensor:
        """Which points are hidden, (N, P) bool.

        Raises:
            DataError: it matters whose points they are, and the batch does not tell.
        """
        filled = filled_slots(voxels)
        if self.settings.unit == "none":
            return torch.zeros_like(filled)
        places, per_sample = self.places(voxels["voxel_coords"].long())
        if self.settings.of == "joint":
            return filled & self._hidden(places, per_sample)[:, None]
        if OWNERS not in voxels:
            raise DataError(
                f"the batch has no {OWNERS}: pretrain.mask.of: {self.settings.of} needs the points' agents."
            )
        owners = voxels[OWNERS].long()
        candidates = filled & (owners == 0) if self.settings.of == "ego" else filled
        of_agents = places[:, None] * MOST_AGENTS + owners
        hidden = torch.zeros_like(filled)
        hidden[candidates] = self._hidden(of_agents[candidates], per_sample * MOST_AGENTS)
        return hidden

    def places(self, coords: Tensor) -> tuple[Tensor, int]:
        """The number (N,) of the cell or voxel that each voxel is hidden with, and how many numbers a sample has.

        Cells are numbered by (sample, y, x); the height of a voxel does not matter.
        """
        if self.settings.unit != "bev_cell":
            per_sample = max(len(coords), 1)
            return coords[:, 0] * per_sample + torch.arange(len(coords), device=coords.device), per_sample
        rows, columns = self.cells
        y, x = coords[:, 2] // self.side, coords[:, 3] // self.side
        return (coords[:, 0] * rows + y) * columns + x, rows * columns

    def kept(self, samples: Tensor) -> Tensor:
        """Draw which of n candidates, ordered by their samples (n,), are kept: (n,) bool.

        Of every group of n the share of floor(n (1 - ratio)), computed in double precision as published.
        """
        noise = self.draw(len(samples)).to(samples.device)
        groups = samples if self.settings.scope == "sample" else torch.zeros_like(samples)
        order = noise.argsort(stable=True)
        order = order[groups[order].argsort(stable=True)]
        sizes = torch.bincount(groups)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[groups[order]]
        return rank < (sizes.double() * (1 - self.settings.ratio)).long()[groups]

    def _hidden(self, places: Tensor, per_sample: int) -> Tensor:
        candidates, index = places.unique(return_inverse=True)
        return ~self.kept(candidates // per_sample)[index]

    def _draw(self, count: int) -> Tensor:
        return uniform(count, self.training)


@dataclass(frozen=True)
class Seen:
    """What is left.

    Attributes:
        voxels: with the hidden points gone and the others moved up.
        blind: (M,) bool, voxels without a visible point, where a token stands.
        slots: (M,) points that the voxels had.
    """

    voxels: Voxels
    blind: Tensor
    slots: Tensor


def seen(voxels: Voxels, hidden: Tensor, drop: bool) -> Seen:
    """Take hidden points (N, P) out of voxels; ``drop`` removes voxels that have none left."""
    visible = filled_slots(voxels) & ~hidden
    order = (~visible).to(torch.uint8).argsort(dim=1, stable=True)
    points, counts = voxels["voxel_features"], visible.sum(dim=1)
    points = (points * visible[..., None]).gather(1, order[..., None].expand_as(points))
    blind, coords, slots = counts == 0, voxels["voxel_coords"], voxels["voxel_num_points"]
    if drop:
        left = ~blind
        points, counts, coords, slots, blind = (part[left] for part in (points, counts, coords, slots, blind))
    return Seen({"voxel_features": points, "voxel_coords": coords, "voxel_num_points": counts}, blind, slots)


def uniform(count: int, training: bool) -> Tensor:
    """So many numbers from [0, 1) on the host: of the global generator in training, else always the same."""
    return torch.rand(count, generator=None if training else torch.Generator().manual_seed(EVALUATION_SEED))


def filled_slots(voxels: Voxels) -> Tensor:
    """Which slots of voxels hold a point, (N, P) bool."""
    points, counts = voxels["voxel_features"], voxels["voxel_num_points"]
    return torch.arange(points.shape[1], device=points.device) < counts[:, None]
