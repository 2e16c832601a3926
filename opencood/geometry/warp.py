"""Warping feature maps from one agent's view to another's (spec models.md, section 3.1)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def normalize_pairwise(pairwise: Array, height_metres: float, width_metres: float) -> Array:
    """Return (..., 2, 3) affine matrices for ``warp`` from (..., 4, 4) rigid transforms in metres.

    Args:
        pairwise: entry [i, j] maps agent i to agent j; it is also the matrix that fetches j's map into i's view.
        height_metres: extent of the map along y.
        width_metres: extent along x.

    Rotation is about the centre of the map, so the range must be centred at 0; height, roll and pitch are ignored.
    The precision is kept and nothing is changed in place.
    """
    planar = pairwise[..., :2, :][..., [0, 1, 3]]
    scale = [
        [1.0, height_metres / width_metres, 2 / width_metres],
        [width_metres / height_metres, 1.0, 2 / height_metres],
    ]
    if isinstance(pairwise, torch.Tensor):
        return planar * pairwise.new_tensor(scale)
    return planar * np.asarray(scale, pairwise.dtype)


def warp(
    features: torch.Tensor,
    theta: torch.Tensor,
    size: tuple[int, int] | None = None,
    mode: str = "bilinear",
    align_corners: bool = False,
) -> torch.Tensor:
    """Return (N, C, *size) maps sampled where ``theta`` points to, zero outside.

    Args:
        features: (N, C, H, W).
        theta: (N, 2, 3) of ``normalize_pairwise``; its own precision is used for the sampling grid.
        size: (H, W) of the result; None keeps the size.
    """
    height, width = size if size is not None else features.shape[-2:]
    grid = F.affine_grid(theta, [features.shape[0], features.shape[1], height, width], align_corners=align_corners)
    return F.grid_sample(features, grid.to(features), mode=mode, padding_mode="zeros", align_corners=align_corners)


def ego_rows(theta: torch.Tensor, record_len: torch.Tensor | list[int]) -> torch.Tensor:
    """Return (A, 2, 3): for every agent of the batch, in order, the matrix that fetches its map into its ego's view.

    Args:
        theta: (B, L, L, 2, 3).
        record_len: (B,) agents per sample, sum A.
    """
    counts = torch.as_tensor(record_len, device=theta.device)
    slots = torch.arange(theta.shape[1], device=theta.device)
    return theta[:, 0][slots[None] < counts[:, None]]


def warp_to_ego(
    features: torch.Tensor, record_len: torch.Tensor | list[int], theta: torch.Tensor, align_corners: bool = False
) -> torch.Tensor:
    """Return (A, C, H, W): the maps of all agents, each seen from the ego of its sample."""
    return warp(features, ego_rows(theta, record_len), align_corners=align_corners)


def pixel_sampling(
    matrices: torch.Tensor, cell: float, size: tuple[int, int], about_centre: bool = True
) -> torch.Tensor:
    """Return (..., 2, 3) affine matrices for ``warp(..., align_corners=True)`` that carry maps along ``matrices``.

    A source pixel p comes to R (p - c) + c + t / cell; pixel centres are integers. This is the warp of OpenCOOD and
    HM-ViT (spec homogeneous.md 2.1, hmvit.md 3), which turns about W/2, H/2, half a cell from the middle of the map.

    Args:
        matrices: (..., 4, 4) from the map's agent to the receiving agent, in metres.
        cell: metres of a cell.
        size: (H, W) of the map.
        about_centre: whether c is the centre of the map; else it is the first pixel.
    """
    height, width = size
    centre = matrices.new_tensor([width / 2, height / 2] if about_centre else [0.0, 0.0])
    back = _inverse_2x2(matrices[..., :2, :2])
    shift = (centre - (back @ (centre + matrices[..., :2, 3] / cell)[..., None])[..., 0])[..., None]
    last = matrices.new_tensor([max(width - 1, 1), max(height - 1, 1)]) / 2  # pixel = (normalised + 1) * last
    linear = back * last / last[:, None]
    moved = ((back @ last[:, None] + shift) / last[:, None]) - 1
    return torch.cat([linear, moved], dim=-1)


def _inverse_2x2(blocks: torch.Tensor) -> torch.Tensor:
    """Inverse of (..., 2, 2) matrices in closed form: no factorisation, no wait for the device."""
    (a, b), (c, d) = (row.unbind(-1) for row in blocks.unbind(-2))
    determinant = (a * d - b * c)[..., None, None]
    return torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2) / determinant
