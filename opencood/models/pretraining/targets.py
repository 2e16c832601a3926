"""What has to be predicted, from the voxels of ``preprocess.bev_args`` (spec coopre.md 4 and 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opencood.config.pretrain import Pretraining
from opencood.errors import DataError
from opencood.models.pretraining.masking import OWNERS, Voxels, uniform

COUNT_UNIT = 64  # what counts of points are divided by


@dataclass(frozen=True)
class TargetGrid:
    """The cells of the decoder's map.

    Attributes:
        cells: along z, y, x.
        stride: voxels of the encoder along a side.
        limits: ``[x0, y0, z0, x1, y1, z1]``, metres.
        size: of a cell along x, y, z, metres.
        unit: what offsets of points are divided by, metres.
    """

    cells: tuple[int, int, int]
    stride: int
    limits: Sequence[float]
    size: Sequence[float]
    unit: Sequence[float]


class Targets(nn.Module):
    """The targets of a batch; nothing here is learned."""

    def __init__(self, settings: Pretraining, grid: TargetGrid) -> None:
        super().__init__()
        self.settings, self.grid = settings, grid
        self._of = {
            "points": self._points,
            "occupancy": lambda inputs, masked: {"gt_occupancy": self._occupied(inputs, masked)},
            "bev_map": lambda inputs, masked: {"gt_map": self._occupied(inputs, masked)},
        }

    def forward(self, inputs: Voxels, hidden: Tensor, samples: int) -> dict[str, Any]:
        """Outputs that a loss compares with the prediction.

        Args:
            inputs: voxels before anything was hidden, and those of ``bev_args``.
            hidden: (N, P) which points were.
            samples: B.

        Returns:
            ``gt_mask`` (B, H, W), 1 where something was hidden, ``gt_num`` (B, 1, H, W), points of a cell / 64, and
            ``target_cells`` (K, 3) [sample, y, x] with ``target_points`` (K, T, 3) and ``target_valid`` (K, T), or
            ``gt_occupancy`` (``gt_map``) (B, Z, H, W).

        Raises:
            DataError: the batch lacks the voxels of ``bev_args``.
        """
        if "bev_voxel_coords" not in inputs:
            raise DataError(
                f"the batch has no bev_voxel_coords: pretrain.target: {self.settings.target} needs preprocess.bev_args."
            )
        _, height, width = self.grid.cells
        sample, _, y, x = inputs["voxel_coords"].long().unbind(1)
        where = sample, y // self.grid.stride, x // self.grid.stride
        counts = inputs["voxel_num_points"].to(inputs["voxel_features"].dtype)
        points = counts.new_zeros(samples, height, width).index_put_(where, counts, accumulate=True)
        touched = hidden.any(dim=1).to(counts)
        masked = torch.zeros_like(points).index_put_(where, touched, accumulate=True) > 0
        common = {"gt_mask": masked.to(counts), "gt_num": points[:, None] / COUNT_UNIT}
        return common | self._of[self.settings.target](inputs, masked)

    def _points(self, inputs: Voxels, masked: Tensor) -> dict[str, Tensor]:
        """The points of the masked cells, relative to the centre of their cell; in height to the ground plane."""
        sample, _, y, x = inputs["bev_voxel_coords"].long().unbind(1)
        height, width = masked.shape[1:]
        number = (sample * height + y) * width + x
        rows = masked.flatten()[number].nonzero().squeeze(1)
        rows = rows[number[rows].argsort()]
        points = inputs["bev_voxel_features"][rows, :, :3]
        slots = torch.arange(points.shape[1], device=points.device)
        valid = slots < inputs["bev_voxel_num_points"][rows, None]
        cells = torch.stack([sample, y, x], dim=1)[rows]
        offset = (points - self._origin(cells, points)) / points.new_tensor(self.grid.unit)
        return {"target_cells": cells, "target_points": offset * valid[..., None], "target_valid": valid}

    def in_metres(self, cells: Tensor, offsets: Tensor) -> Tensor:
        """Points (K, P, 3) in metres from offsets as they are predicted for cells (K, 3) [sample, y, x]."""
        return offsets * offsets.new_tensor(self.grid.unit) + self._origin(cells, offsets)

    def _origin(self, cells: Tensor, like: Tensor) -> Tensor:
        """(K, 1, 3) what the points of cells are relative to: the centre, or what the published unit makes of it."""
        unit, low = like.new_tensor(self.grid.unit[:2]), like.new_tensor(self.grid.limits[:2])
        centre = cells[:, [2, 1]].to(like) * unit + unit / 2 + low
        return torch.cat([centre, torch.zeros_like(centre[:, :1])], dim=1)[:, None]

    def _occupied(self, inputs: Voxels, masked: Tensor) -> Tensor:
        """Which cells of space hold a point of the whole cloud, (B, Z, H, W)."""
        depth, height, width = self.grid.cells
        truth = inputs["voxel_features"].new_zeros(len(masked), depth, height, width)
        truth[tuple(inputs["bev_voxel_coords"].long().unbind(1))] = 1
        return truth


def both_views(inputs: Mapping[str, Tensor], samples: int) -> dict[str, Tensor]:
    """The voxels of both views as 2B samples, first all first views.

    Raises:
        DataError: the batch has one view.
    """
    if "view_voxel_coords" not in inputs:
        raise DataError("the batch has no second view: pretrain.target: contrast needs samples of early fusion.")
    names = [name for name in ("voxel_features", "voxel_coords", "voxel_num_points", OWNERS) if name in inputs]
    joined = {name: torch.cat([inputs[name], inputs[f"view_{name}"]]) for name in names}
    joined["voxel_coords"][len(inputs["voxel_coords"]) :, 0] += samples
    return joined


class ContrastPairs(nn.Module):
    """Cells of two views that show the same place, both with points."""

    def __init__(self, grid: TargetGrid, most: int) -> None:
        super().__init__()
        self.grid, self.most = grid, most

    def forward(self, voxels: Voxels, transform: Tensor, samples: int) -> dict[str, Tensor]:
        """``contrast_cells`` and ``contrast_partners`` (n, 3) [map, y, x] of 2B maps.

        Args:
            voxels: of both views, see :func:`both_views`.
            transform: (B, 4, 4) from the first to the second view, metres.
            samples: B.
        """
        _, height, width = self.grid.cells
        coords = voxels["voxel_coords"].long()
        occupied = torch.zeros(2 * samples, height, width, dtype=torch.bool, device=coords.device)
        occupied[coords[:, 0], coords[:, 2] // self.grid.stride, coords[:, 3] // self.grid.stride] = True
        cells = occupied[:samples].nonzero()
        size, low = (transform.new_tensor(values[:2]) for values in (self.grid.size, self.grid.limits))
        centres = (cells[:, [2, 1]] + 0.5) * size + low
        matrix = transform[cells[:, 0]]
        moved = (matrix[:, :2, :2] @ centres[..., None]).squeeze(2) + matrix[:, :2, 3]
        x, y = ((moved - low) / size).floor().long().unbind(1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        partners = torch.stack([cells[:, 0] + samples, y.clamp(0, height - 1), x.clamp(0, width - 1)], dim=1)
        rows = (inside & occupied[tuple(partners.unbind(1))]).nonzero().squeeze(1)
        if len(rows) > self.most:
            rows = rows[uniform(len(rows), self.training).argsort()[: self.most].to(rows.device)]
        return {"contrast_cells": cells[rows], "contrast_partners": partners[rows]}
