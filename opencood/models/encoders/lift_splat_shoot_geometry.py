"""The geometry of lifting pictures to the ground: depth bins, the frustum of a camera, sums over the cells of a map.

Source: spec models.md 1.3 (Philion and Fidler, 2020). Constants are buffers that are not in the state dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from opencood.errors import ConfigError, nearest
from opencood.models.precision import own_precision

# What takes a pixel and its depth to the agent's frame.
CALIBRATION = ("rots", "trans", "intrins", "post_rots", "post_trans")


class DepthBins(nn.Module):
    """Depths d_min to d_max in ``count`` bins of one width (``UD``) or of linearly growing widths (``LID``)."""

    def __init__(self, d_min: float, d_max: float, count: int, mode: Literal["LID", "UD"]) -> None:
        super().__init__()
        if mode not in ("LID", "UD"):
            raise ConfigError(f"grid_conf.mode: unknown '{mode}'.{nearest(mode, ('LID', 'UD'))} Valid: LID, UD.")
        self.d_min, self.d_max, self.count, self.mode = d_min, d_max, count, mode
        self.step = (d_max - d_min) / count if mode == "UD" else 2 * (d_max - d_min) / (count * (count + 1))

    def depths(self) -> Tensor:
        """Where the bins begin (D,) in metres, float64."""
        i = torch.arange(self.count, dtype=torch.float64)
        return self.d_min + self.step * (i if self.mode == "UD" else i * (i + 1) / 2)

    def positions(self, depth: Tensor) -> Tensor:
        """Depths in metres to fractional bin numbers; NaN where the depth has no place in a growing scale."""
        above = (depth.clamp(max=self.d_max) - self.d_min) / self.step
        return above if self.mode == "UD" else 0.5 * torch.sqrt(1 + 8 * above) - 0.5

    def targets(self, depth: Tensor) -> Tensor:
        """Depths to bins, int64; what is beyond the last bin or has no place is in the last, as published."""
        bins = self.positions(depth).floor().clamp(min=0)
        return torch.where(bins < self.count, bins, self.count - 1).long()

    def forward(self, depth: Tensor) -> Tensor:
        """Depths (n, h, w) to one-hot bins (n, D, h, w).

        In evaluation a pixel outside all bins belongs to none; in training it is in the first or last.
        """
        one_hot = nn.functional.one_hot(self.targets(depth), self.count).movedim(-1, 1).to(depth.dtype)
        if self.training:
            return one_hot
        bins = self.positions(depth).floor()
        return one_hot * ((bins >= 0) & (bins < self.count))[:, None]


class Frustum(nn.Module):
    """Where the cells of a picture are in space, at every depth."""

    def __init__(self, picture: Sequence[int], stride: int, depths: Tensor) -> None:
        super().__init__()
        height, width = picture
        columns = torch.linspace(0, width - 1, width // stride)
        rows = torch.linspace(0, height - 1, height // stride)
        d, v, u = torch.meshgrid(depths.float(), rows, columns, indexing="ij")
        self.points: Tensor
        self.register_buffer("points", torch.stack([u, v, d], dim=-1), persistent=False)

    def forward(self, calibration: Mapping[str, Tensor]) -> Tensor:
        """Points (N, n_cam, D, h, w, 3) in metres in the agents' frames.

        ``post_rots``, ``post_trans`` took original pixels to those of the network's picture, ``intrins`` takes rays to
        original pixels, ``rots`` and ``trans`` take the camera's frame to the agent's; (N, n_cam, 3[, 3]) each.
        """
        # matrix products would be rounded in half precision, and points move to other cells
        with own_precision(self.points):
            rots, trans, intrins, post_rots, post_trans = (calibration[key].float() for key in CALIBRATION)
            pixels = _turn(post_rots.inverse(), self.points - _per_camera(post_trans))
            rays = torch.cat([pixels[..., :2] * pixels[..., 2:], pixels[..., 2:]], dim=-1)
            return _turn(rots @ intrins.inverse(), rays) + _per_camera(trans)


class CellSum(nn.Module):
    """Sums the features of all points that fall into a cell of the map.

    Args:
        grid: ``xbound``, ``ybound``, ``zbound`` as [min, max, step] in metres. There are (max - min) / step cells,
            computed in double precision and cut to an integer, as published: 38.4 / 0.4 gives 95.
    """

    def __init__(self, grid: Mapping[str, Any]) -> None:
        super().__init__()
        bounds = [grid[axis] for axis in ("xbound", "ybound", "zbound")]
        self.cells = [int((high - low) / step) for low, high, step in bounds]
        if min(self.cells) < 1:
            raise ConfigError(
                f"grid_conf: {bounds} gives {self.cells} cells in x, y, z; every axis needs at least one."
            )
        self.lower: Tensor
        self.step: Tensor
        self.register_buffer("lower", torch.tensor([b[0] for b in bounds], dtype=torch.float32), persistent=False)
        self.register_buffer("step", torch.tensor([b[2] for b in bounds], dtype=torch.float32), persistent=False)

    def forward(self, points: Tensor, weights: Tensor, features: Tensor) -> Tensor:
        """Sum ``weight * feature`` of every point into a contiguous map (N, Z, C, Y, X).

        Args:
            points: (N, n_cam, D, h, w, 3) in metres.
            weights: (N * n_cam, D, h, w), how much of a pixel is at each depth.
            features: (N * n_cam, C, h, w).
        """
        agents, cameras = points.shape[:2]
        columns, rows, heights = self.cells
        # cut towards zero: what is up to a cell outside the lower border is in the first cell, as published
        index = ((points - self.lower) / self.step).long()
        inside = ((index >= 0) & (index < index.new_tensor(self.cells))).all(dim=-1)
        agent, camera, depth, row, column = inside.nonzero(as_tuple=True)
        x, y, z = index[agent, camera, depth, row, column].unbind(-1)
        cell = ((agent * heights + z) * rows + y) * columns + x
        picture = agent * cameras + camera
        pixel = (picture * features.shape[2] + row) * features.shape[3] + column
        values = features.movedim(1, -1).flatten(0, 2).index_select(0, pixel)
        values = values * weights[picture, depth, row, column][:, None]
        # long sums stay in single precision, whatever the network runs in
        sums = values.new_zeros(agents * heights * rows * columns, features.shape[1], dtype=torch.float32)
        sums = sums.index_add(0, cell, values.float())
        return sums.view(agents, heights, rows, columns, -1).movedim(-1, 2).contiguous()


def _turn(matrices: Tensor, points: Tensor) -> Tensor:
    """(N, n_cam, 3, 3) times points (N, n_cam, D, h, w, 3), or the same points for every camera."""
    return (matrices[:, :, None, None, None] @ points[..., None])[..., 0]


def _per_camera(shift: Tensor) -> Tensor:
    return shift[:, :, None, None, None]
