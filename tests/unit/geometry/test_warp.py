"""Warping maps between agents."""

from __future__ import annotations

import numpy as np
import torch

from opencood.geometry.poses import pairwise_transforms
from opencood.geometry.warp import ego_rows, normalize_pairwise, warp, warp_to_ego

HEIGHT, WIDTH, CELL = 20, 32, 0.5


def theta_of(poses: list[list[float]]) -> torch.Tensor:
    pairwise = torch.from_numpy(pairwise_transforms(poses, len(poses)))
    return normalize_pairwise(pairwise[None], HEIGHT * CELL, WIDTH * CELL)


def test_identity_changes_nothing() -> None:
    features = torch.randn(1, 2, HEIGHT, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(warp(features, theta_of([[0.0] * 6])[:, 0, 0]), features)


def test_an_agent_ahead_sees_its_cells_ahead_in_the_ego_map() -> None:
    ahead = theta_of([[0.0] * 6, [2.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    features = torch.zeros(2, 1, HEIGHT, WIDTH)
    features[1, 0, 10, 16] = 1

    seen = warp_to_ego(features, torch.tensor([2]), ahead)

    assert seen[1, 0].nonzero().tolist() == [[10 + 2, 16 + 4]]  # 1 m along y, 2 m along x
    assert not seen[0].any()


def test_a_turned_agent_is_turned_back() -> None:
    turned = theta_of([[0.0] * 6, [0.0, 0.0, 0.0, 0.0, 90.0, 0.0]])
    features = torch.zeros(2, 1, HEIGHT, WIDTH)
    features[1, 0, 9:11, 20:22] = 1  # ahead of the agent: x from 2 to 3 m

    seen = warp_to_ego(features, [2], turned)

    assert seen[1, 0, 14:16, 15:17].min() > 0.99  # to the side of the ego: y from 2 to 3 m


def test_rows_follow_the_samples() -> None:
    theta = torch.arange(2 * 3 * 3).reshape(2, 3, 3, 1, 1).expand(2, 3, 3, 2, 3)
    assert ego_rows(theta, torch.tensor([2, 3]))[:, 0, 0].tolist() == [0, 1, 9, 10, 11]


def test_arrays_and_tensors_agree_and_are_not_changed() -> None:
    pairwise = pairwise_transforms(np.random.default_rng(0).normal(size=(3, 6)) * 10, 4)
    before = pairwise.copy()

    theta = normalize_pairwise(pairwise, 10.0, 16.0)

    np.testing.assert_array_equal(theta, normalize_pairwise(torch.from_numpy(pairwise), 10.0, 16.0).numpy())
    np.testing.assert_array_equal(pairwise, before)
    assert theta.shape == (4, 4, 2, 3)


def test_result_may_have_another_size() -> None:
    assert warp(torch.ones(1, 3, 8, 8), torch.eye(2, 3)[None], size=(4, 6)).shape == (1, 3, 4, 6)
