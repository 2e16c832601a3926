"""Voxels made in advance against those of ``voxelize``."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from opencood.geometry.preprocessors import SpVoxelPreprocessor
from opencood.geometry.voxel_groups import VoxelGroups, group_points, join_chosen, spread
from opencood.geometry.voxels import voxelize

LIMITS, SIZE = (-2.0, -1.0, -1.0, 2.0, 1.0, 1.0), (0.5, 0.5, 2.0)


def cloud(count: int, seed: int) -> NDArray[np.float32]:
    """Some points in the range, some outside."""
    return (np.random.default_rng(seed).normal(size=(count, 4)) * (1, 0.5, 0.5, 1)).astype(np.float32)


def written(chosen: Mapping[str, Any], max_points: int) -> dict[str, NDArray]:
    return {key: value.numpy() for key, value in join_chosen([chosen], max_points).items()}


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 300), st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 40))
def test_from_the_front_they_are_those_of_voxelize(count: int, seed: int, most_points: int, most_voxels: int) -> None:
    points = cloud(count, seed)
    wanted = voxelize(points, LIMITS, SIZE, most_points, most_voxels)

    got = written(group_points(points, LIMITS, SIZE).chosen(most_points, most_voxels), most_points)

    assert list(got) == list(wanted)
    assert got["voxel_coords"][:, 1:].tobytes() == wanted["voxel_coords"].tobytes()
    for key in ("voxel_features", "voxel_num_points"):
        assert got[key].dtype == wanted[key].dtype and got[key].tobytes() == wanted[key].tobytes(), key


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(0, 10**6), st.integers(1, 8))
def test_drawn_they_differ_in_the_points_of_overfull_voxels_alone(count: int, seed: int, most_points: int) -> None:
    points = cloud(count, seed)
    groups, random = group_points(points, LIMITS, SIZE), np.random.RandomState(seed)
    wanted = voxelize(points, LIMITS, SIZE, most_points, count)

    got = written(groups.chosen(most_points, count, random), most_points)

    np.testing.assert_array_equal(got["voxel_coords"][:, 1:], wanted["voxel_coords"])
    np.testing.assert_array_equal(got["voxel_num_points"], wanted["voxel_num_points"])
    full = groups.counts > most_points
    np.testing.assert_array_equal(got["voxel_features"][~full], wanted["voxel_features"][~full])
    members = np.split(groups.points, np.cumsum(groups.counts)[:-1])
    for voxel in np.flatnonzero(full):
        twice = np.concatenate([members[voxel]] * 2)
        circles = [twice[begin : begin + most_points] for begin in range(len(members[voxel]))]
        assert any(np.array_equal(got["voxel_features"][voxel], circle) for circle in circles)


def test_every_point_and_every_voxel_is_kept_as_often() -> None:
    groups = group_points(cloud(300, 1), LIMITS, SIZE)
    voxels, most_points, most_voxels, runs = len(groups.counts), 2, 5, 2000
    random = np.random.RandomState(0)
    cells: dict[tuple[int, ...], int] = {}
    found: dict[bytes, int] = {}
    for _ in range(runs):
        kept = written(groups.chosen(most_points, most_voxels, random), most_points)
        columns = (kept["voxel_coords"].tolist(), kept["voxel_features"], kept["voxel_num_points"])
        for cell, features, count in zip(*columns, strict=True):
            cells[tuple(cell)] = cells.get(tuple(cell), 0) + 1
            for point in features[:count]:
                found[point.tobytes()] = found.get(point.tobytes(), 0) + 1
    assert len(cells) == voxels and len(found) == len(groups.points)
    np.testing.assert_allclose(list(cells.values()), runs * most_voxels / voxels, rtol=0.2)
    share = np.repeat(np.minimum(groups.counts, most_points) / groups.counts, groups.counts) * most_voxels / voxels
    often = np.array([found[point.tobytes()] for point in groups.points])
    np.testing.assert_allclose(often, runs * share, atol=6 * np.sqrt(runs * share.max()))


@pytest.mark.parametrize("most_points", [3, 100])
def test_another_process_is_sent_what_is_kept(most_points: int) -> None:
    groups = [group_points(cloud(200, seed), LIMITS, SIZE) for seed in (1, 2)]
    kept = [one.chosen(most_points, 25, np.random.RandomState(3)) for one in groups]
    batch = join_chosen(kept, most_points)
    message = pickle.dumps(batch)
    for again in (pickle.loads(message), pickle.loads(pickle.dumps(pickle.loads(message)))):
        for key, value in batch.items():
            assert torch.equal(again[key], value), key
    assert batch["voxel_coords"][:, 0].bincount().tolist() == [len(one["voxel_coords"]) for one in kept]


def test_operations_of_a_device_write_the_same() -> None:
    groups = group_points(cloud(300, 5), LIMITS, SIZE)
    chosen = groups.chosen(4, 30, np.random.RandomState(0))
    points, counts = join_chosen([chosen], 4)._pending.compact()  # type: ignore[union-attr]
    assert torch.equal(spread(points, counts, 4, "cpu"), join_chosen([chosen], 4)["voxel_features"])


def test_a_batch_may_mix_them_with_voxels_of_now() -> None:
    grid = SpVoxelPreprocessor(SIZE, 4, 100, 100, LIMITS)
    points = [cloud(200, seed) for seed in (1, 2)]
    wanted = grid.collate([grid.preprocess(one) for one in points])
    groups = group_points(points[1], LIMITS, SIZE)
    got = grid.collate([grid.preprocess(points[0]), grid.choose(groups)])
    assert list(got) == list(wanted) and all(torch.equal(got[key], wanted[key]) for key in wanted)


def test_no_point_in_range() -> None:
    groups = group_points(cloud(5, 0) + 100, LIMITS, SIZE)
    assert isinstance(groups, VoxelGroups) and len(groups.points) == len(groups.counts) == 0
    assert written(groups.chosen(3, 5, np.random.RandomState(0)), 3)["voxel_features"].shape == (0, 3, 4)
