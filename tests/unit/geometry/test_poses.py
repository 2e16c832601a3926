"""Poses and transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.geometry.poses import (
    pairwise_transforms,
    poses_to_tfm,
    tfm_to_pose,
    transform_points,
    x1_to_x2,
    x_to_world,
)

POSES = st.tuples(*[st.floats(-200, 200)] * 3, st.floats(-179, 179), st.floats(-179, 179), st.floats(-89, 89)).map(list)


@settings(deadline=None, max_examples=100)
@given(POSES)
def test_a_pose_survives_the_round_trip(pose: list[float]) -> None:
    matrix = x_to_world(pose)

    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    np.testing.assert_allclose(tfm_to_pose(matrix), pose, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(POSES, POSES, POSES)
def test_transforms_chain_and_invert(a: list[float], b: list[float], c: list[float]) -> None:
    np.testing.assert_allclose(x1_to_x2(b, c) @ x1_to_x2(a, b), x1_to_x2(a, c), atol=1e-8)
    np.testing.assert_allclose(x1_to_x2(b, a) @ x1_to_x2(a, b), np.eye(4), atol=1e-8)
    np.testing.assert_allclose(x1_to_x2(x_to_world(a), x_to_world(b)), x1_to_x2(a, b))


def test_axes() -> None:
    forward = np.array([[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(transform_points(forward, x_to_world([5, 6, 7, 0, 90, 0])), [[5, 7, 7]], atol=1e-12)
    np.testing.assert_allclose(transform_points(forward, x_to_world([0, 0, 0, 0, 0, 90])), [[0, 0, 1]], atol=1e-12)


def test_pairwise_maps_agent_to_agent_and_is_identity_elsewhere() -> None:
    poses = np.random.default_rng(0).normal(size=(3, 6)) * (50, 50, 1, 5, 90, 5)
    pairwise = pairwise_transforms(poses, 5)

    assert pairwise.shape == (5, 5, 4, 4)
    np.testing.assert_allclose(pairwise[1, 2], x1_to_x2(poses[1], poses[2]), atol=1e-12)
    np.testing.assert_array_equal(pairwise[[0, 1, 3, 0], [0, 1, 3, 4]], np.tile(np.eye(4), (4, 1, 1)))
    np.testing.assert_allclose(pairwise_transforms([x_to_world(pose) for pose in poses], 5), pairwise, atol=1e-12)
    np.testing.assert_array_equal(pairwise_transforms(poses, 2), pairwise[:2, :2])
    assert (pairwise_transforms(poses, 4, proj_first=True) == np.eye(4)).all()
    assert (pairwise_transforms(np.zeros((0, 6)), 2) == np.eye(4)).all()


def test_many_poses_at_once() -> None:
    poses = np.random.default_rng(1).normal(size=(4, 6)) * (50, 50, 1, 5, 90, 5)
    planar = poses.copy()
    planar[:, [2, 3, 5]] = 0

    many = poses_to_tfm(poses)

    assert many.dtype == np.float32
    np.testing.assert_allclose(many, [x_to_world(pose) for pose in poses], atol=1e-4)
    np.testing.assert_allclose(poses_to_tfm(planar), poses_to_tfm(poses[:, [0, 1, 4]]), atol=1e-6)
    np.testing.assert_allclose(poses_to_tfm(torch.tensor(poses)).numpy(), many, atol=1e-5)
    given = torch.tensor(poses[:, [0, 1, 4]], requires_grad=True)
    poses_to_tfm(given).sum().backward()
    assert given.grad is not None


def test_points_keep_their_precision_and_further_columns() -> None:
    points = np.random.default_rng(2).normal(size=(6, 5)).astype(np.float32)
    matrix = x_to_world([1, 2, 3, 4, 5, 6])

    moved = transform_points(points, matrix)

    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved[:, 3:], points[:, 3:])
    np.testing.assert_allclose(moved[:, :3], points[:, :3] @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-5)
    np.testing.assert_allclose(
        transform_points(torch.from_numpy(points), torch.from_numpy(matrix)).numpy(), moved, atol=1e-6
    )
    assert transform_points(points.astype(np.float64), matrix).dtype == np.float64
    assert transform_points(points.reshape(2, 3, 5), matrix).shape == (2, 3, 5)


def test_single_precision_on_request() -> None:
    assert x_to_world([1, 2, 3, 4, 5, 6], dtype=np.float32).dtype == np.float32


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="6-vector"):
        x_to_world([1, 2, 3])
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        poses_to_tfm(np.zeros((2, 4)))
