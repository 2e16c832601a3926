"""Planar poses as matrices, and poses that agree best with many relative ones (spec homogeneous.md 3.11)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROUNDS, STEPS = 10, 15
FREEDOM, SIZE = 2.0, 4  # of the t distribution over (x, y, cos, sin)
RIDGE = 0.05
CERTAINTY = 120.0  # what the log-densities of a pair are compared with


def planar_matrix(poses: Tensor) -> Tensor:
    """(..., 4, 4) from x, y in metres and yaw in degrees (..., 3)."""
    x, y, yaw = poses.unbind(-1)
    cos, sin = torch.deg2rad(yaw).cos(), torch.deg2rad(yaw).sin()
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [(cos, -sin, zero, x), (sin, cos, zero, y), (zero, zero, one, zero), (zero, zero, zero, one)]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def planar_pose(matrices: Tensor) -> Tensor:
    """The inverse of :func:`planar_matrix`."""
    yaw = torch.rad2deg(torch.atan2(matrices[..., 1, 0], matrices[..., 0, 0]))
    return torch.stack([matrices[..., 0, 3], matrices[..., 1, 3], yaw], dim=-1)


def planar_inverse(matrices: Tensor) -> Tensor:
    """Inverse of rigid transforms (..., 4, 4)."""
    turned = matrices[..., :3, :3].transpose(-1, -2)
    moved = -(turned @ matrices[..., :3, 3:])
    return torch.cat([torch.cat([turned, moved], dim=-1), matrices[..., 3:, :]], dim=-2)


def relative(poses: Tensor) -> Tensor:
    """(B, L, L, 4, 4), [b, i, j] from agent i to agent j, of poses (B, L, 4, 4)."""
    return planar_inverse(poses)[:, None] @ poses[:, :, None]


def consistent_poses(poses: Tensor, pairwise: Tensor, present: Tensor, overlap: Tensor) -> Tensor:
    """Poses (B, L, 4, 4), float64, that agree best with the relative ones; alone agents keep theirs.

    Every other agent says twice where an agent is, by the matrices of both directions. Their robust mean (a t
    distribution) is taken for all agents; pairs that fit badly weigh less in the next round. What is said stays as it
    came in.

    Args:
        poses: (B, L, 4, 4); pairwise: (B, L, L, 4, 4); present: (B, L).
        overlap: (B, L, L) share of its map that i sees of j's.
    """
    poses, pairwise = poses.double(), pairwise.double()
    others = present[:, :, None] & present[:, None, :] & ~torch.eye(present.shape[1], dtype=torch.bool).to(present)
    back = planar_inverse(pairwise)
    said = torch.cat(
        [_vector(poses[:, None] @ pairwise), _vector(poses[:, None] @ back.transpose(1, 2))], dim=2
    )  # (B, L, 2L, 4): of agent i by agents j
    of_other = _vector(poses[:, :, None] @ back)  # of agent j, by agent i's pose
    heard = others.repeat(1, 1, 2)
    weights = others.double()
    for _ in range(ROUNDS):
        mean, spread = _robust_mean(said, heard, weights.repeat(1, 1, 2))
        fit = _log_density(said[:, :, : others.shape[2]], mean[:, :, None], spread[:, :, None])
        fit = fit + _log_density(of_other, mean[:, None], spread[:, None])
        weights = CERTAINTY * (overlap.double() + 0.01) / (CERTAINTY - fit) * others
    yaw = torch.rad2deg(torch.atan2(mean[..., 3], mean[..., 2]))
    found = planar_matrix(torch.cat([mean[..., :2], yaw[..., None]], dim=-1))
    return torch.where(others.any(dim=2)[..., None, None], found, poses)


def _vector(matrices: Tensor) -> Tensor:
    """(..., 4): x, y, cos, sin."""
    return torch.stack([matrices[..., 0, 3], matrices[..., 1, 3], matrices[..., 0, 0], matrices[..., 1, 0]], dim=-1)


def _robust_mean(said: Tensor, heard: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, L, 4) and scatter (B, L, 4, 4) of what is said (B, L, S, 4) and heard (B, L, S)."""
    count = heard.sum(dim=2, keepdim=True)
    ordered = said.masked_fill(~heard[..., None], math.inf).sort(dim=2).values
    middle = ((count - 1) // 2).clamp(min=0)[..., None].expand(-1, -1, 1, SIZE)
    mean = ordered.gather(2, middle)[:, :, 0]
    mean = torch.where(count > 0, mean, torch.zeros_like(mean))
    unit = torch.eye(SIZE, dtype=said.dtype, device=said.device)
    spread = unit.expand(*mean.shape, SIZE)
    for _ in range(STEPS):
        trust = (FREEDOM + SIZE) / (FREEDOM + _distance(said - mean[:, :, None], spread[:, :, None])) * heard
        shares = (trust * weights)[..., None]
        mean = (shares * said).sum(dim=2) / shares.sum(dim=2).clamp(min=torch.finfo(said.dtype).tiny)
        off = said - mean[:, :, None]
        scatter = torch.einsum("bls,blsp,blsq->blpq", trust, off, off) / count.clamp(min=1)[..., None]
        spread = scatter + RIDGE * unit
    return mean, spread


def _distance(off: Tensor, spread: Tensor) -> Tensor:
    """Squared Mahalanobis distance of (..., 4)."""
    return (off * torch.linalg.solve(spread.expand(*off.shape, SIZE), off)).sum(dim=-1)


def _log_density(x: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Of the t distribution in four dimensions."""
    constant = math.lgamma((FREEDOM + SIZE) / 2) - math.lgamma(FREEDOM / 2) - SIZE / 2 * math.log(FREEDOM * math.pi)
    far = torch.log1p(_distance(x - mean, spread) / FREEDOM)
    return constant - torch.logdet(spread) / 2 - (FREEDOM + SIZE) / 2 * far
