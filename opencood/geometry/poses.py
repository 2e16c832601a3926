"""Rigid poses: six numbers or a 4x4 matrix, and the transforms between agents.

A pose is ``[x, y, z, roll, yaw, pitch]`` in metres and degrees. Its matrix maps points of the agent's frame to the
world (spec data.md, section 1). Every pose argument may also be given as that matrix.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = TypeVar("Array", np.ndarray, torch.Tensor)
# OpenCV camera axes (x right, y down, z forward) in the UE axes (x forward, y right, z up) of a camera pose.
OPENCV_AXES = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)


def x_to_world(pose: ArrayLike, dtype: DTypeLike = np.float64) -> NDArray:
    """Return the (4, 4) matrix that maps the pose's own frame to the world.

    Args:
        pose: 6-vector, or a (4, 4) matrix that is returned as it is (converted to ``dtype``).
        dtype: precision of the whole evaluation, angles and sines included. Camera extrinsics need float32.

    Raises:
        ValueError: the pose is neither a 6-vector nor a (4, 4) matrix.
    """
    values = np.asarray(pose, dtype=dtype)
    if values.shape == (4, 4):
        return values
    if values.shape != (6,):
        raise ValueError(f"a pose is a 6-vector or a (4, 4) matrix, got shape {values.shape}")
    return _matrices(values[None])[0]


def x1_to_x2(source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Return the (4, 4) float64 matrix that maps points of frame ``source`` to frame ``target``."""
    return np.linalg.inv(x_to_world(target)) @ x_to_world(source)


def tfm_to_pose(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return ``[x, y, z, roll, yaw, pitch]`` (metres, degrees) of (..., 4, 4) matrices."""
    m = np.asarray(matrix, dtype=np.float64)
    roll = np.arctan2(-m[..., 2, 1], m[..., 2, 2])
    yaw = np.arctan2(m[..., 1, 0], m[..., 0, 0])
    pitch = np.arctan2(m[..., 2, 0], np.hypot(m[..., 2, 1], m[..., 2, 2]))
    return np.concatenate([m[..., :3, 3], np.rad2deg(np.stack([roll, yaw, pitch], axis=-1))], axis=-1)


def poses_to_tfm(poses: Array) -> Array:
    """Return (N, 4, 4) float32 matrices of (N, 6) poses, or of (N, 3) planar poses ``x, y, yaw``; gradients flow.

    Raises:
        ValueError: the last axis has neither 3 nor 6 entries.
    """
    if poses.ndim != 2 or poses.shape[1] not in (3, 6):
        raise ValueError(f"poses must be (N, 6) or (N, 3), got {tuple(poses.shape)}")
    if isinstance(poses, torch.Tensor):
        return _matrices_torch(
            _six_columns(poses.float(), torch.zeros_like(poses[:, 0], dtype=torch.float32), torch.stack)
        )
    values = np.asarray(poses, dtype=np.float32)
    return _matrices(_six_columns(values, np.zeros(len(values), np.float32), np.stack))


def pairwise_transforms(poses: ArrayLike, max_cav: int, proj_first: bool = False) -> NDArray[np.float64]:
    """Return (L, L, 4, 4) float64; entry [i, j] maps agent i to agent j.

    Args:
        poses: (n, 6) poses or (n, 4, 4) matrices.
        max_cav: L; agents beyond it are left out, entries without an agent are the identity.
        proj_first: points were already projected to the ego, so that every entry is the identity.
    """
    pairwise = np.tile(np.eye(4), (max_cav, max_cav, 1, 1))
    given = np.asarray(poses, dtype=np.float64)[:max_cav]
    if proj_first or not len(given):
        return pairwise
    to_world = given if given.ndim == 3 else _matrices(given)
    between = np.linalg.inv(to_world)[None, :] @ to_world[:, None]
    n = len(to_world)
    pairwise[:n, :n] = between
    pairwise[np.arange(n), np.arange(n)] = np.eye(4)
    return pairwise


def transform_points(points: Array, matrix: ArrayLike | torch.Tensor) -> Array:
    """Return the points with x, y, z mapped by a (4, 4) matrix; further columns (intensity) are kept.

    Args:
        points: (..., 3 or more), metres. The arithmetic runs in the precision of the points.
        matrix: (4, 4), row = output axis.
    """
    if isinstance(points, torch.Tensor):
        m = torch.as_tensor(matrix).to(points)
        moved = torch.nn.functional.pad(points[..., :3], (0, 1), value=1.0) @ m[:3].T
        return torch.cat([moved, points[..., 3:]], dim=-1)
    kind = points.dtype if np.issubdtype(points.dtype, np.floating) else np.dtype(np.float64)
    m = np.asarray(matrix, dtype=kind)
    homogeneous = np.concatenate([points[..., :3], np.ones_like(points[..., :1])], axis=-1, dtype=kind)
    return np.concatenate([homogeneous @ m[:3].T, points[..., 3:]], axis=-1)


def _six_columns(poses: Array, zero: Array, stack: object) -> Array:
    if poses.shape[1] == 6:
        return poses
    x, y, yaw = poses[:, 0], poses[:, 1], poses[:, 2]
    return stack([x, y, zero, zero, yaw, zero], -1)  # type: ignore[operator]


def _matrices(poses: NDArray) -> NDArray:
    """(N, 6) -> (N, 4, 4) in the precision of the poses."""
    roll, yaw, pitch = np.radians(poses[:, 3:]).T
    rows = _rows(poses, np.cos(roll), np.sin(roll), np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch))
    matrices = np.zeros((len(poses), 4, 4), poses.dtype)
    matrices[:, 3, 3] = 1
    for index, row in enumerate(rows):
        for column, values in enumerate(row):
            matrices[:, index, column] = values
    return matrices


def _matrices_torch(poses: torch.Tensor) -> torch.Tensor:
    roll, yaw, pitch = torch.deg2rad(poses[:, 3:]).T
    rows = _rows(poses, roll.cos(), roll.sin(), yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin())
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    return torch.stack([torch.stack(row, -1) for row in (*rows, (zero, zero, zero, one))], -2)


def _rows(
    poses: Array, cr: Array, sr: Array, cy: Array, sy: Array, cp: Array, sp: Array
) -> tuple[tuple[Array, ...], ...]:
    """First three rows of the matrix, entry by entry (the table of data.md, section 1)."""
    return (
        (cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr, poses[:, 0]),
        (sy * cp, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr, poses[:, 1]),
        (sp, -cp * sr, cp * cr, poses[:, 2]),
    )
