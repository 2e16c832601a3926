"""Preprocessors as the configuration builds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from opencood.errors import ConfigError, DataError
from opencood.geometry.voxel_groups import group_points
from opencood.geometry.voxels import voxelize
from opencood.registry import REGISTRY

LIMITS = [-4.0, -4.0, -3.0, 4.0, 4.0, 1.0]
POINTS = np.random.default_rng(0).uniform([-4, -4, -3, 0], [4, 4, 1, 1], size=(200, 4)).astype(np.float32)


def build(name: str, args: dict[str, Any], train: bool = False, **context: Any) -> Any:
    return REGISTRY.build("preprocessor", name, args, "preprocess.args", cav_lidar_range=LIMITS, train=train, **context)


def test_voxels_know_their_cloud_after_collation() -> None:
    args = {"voxel_size": [1, 1, 4], "max_points_per_voxel": 4, "max_voxel_train": 10, "max_voxel_test": 50}
    processor = build("SpVoxelPreprocessor", args)
    clouds = [processor.preprocess(POINTS), processor.preprocess(POINTS[:0]), processor.preprocess(POINTS[:5])]

    batch = processor.collate(clouds)

    counts = [len(cloud["voxel_coords"]) for cloud in clouds]
    assert batch["voxel_coords"][:, 0].tolist() == [0] * counts[0] + [2] * counts[2]
    assert batch["voxel_features"].shape == (sum(counts), 4, 4)
    assert batch["voxel_num_points"].sum() == sum(cloud["voxel_num_points"].sum() for cloud in clouds)
    assert len(build("SpVoxelPreprocessor", args, train=True).preprocess(POINTS)["voxel_coords"]) == 10


@pytest.mark.parametrize("train", [True, False])
def test_lost_voxels_are_told_once(train: bool, caplog: pytest.LogCaptureFixture) -> None:
    args = {"voxel_size": [1, 1, 4], "max_points_per_voxel": 4, "max_voxel_train": 10, "max_voxel_test": 20}
    processor = build("SpVoxelPreprocessor", args, train)
    kept = 10 if train else 20
    cells = len(processor.preprocess(POINTS[:1])["voxel_coords"])
    assert cells == 1 and not caplog.records
    processor.preprocess(POINTS)
    processor.choose(group_points(POINTS, LIMITS, (1, 1, 4)))
    (told,) = [record.getMessage() for record in caplog.records]
    everything = len(voxelize(POINTS, LIMITS, (1, 1, 4), 4, len(POINTS))["voxel_coords"])
    assert f"max_voxel_{'train' if train else 'test'}: a cloud has {everything} voxels and only {kept} are kept" in told


def test_a_cap_that_is_just_enough_is_no_loss(caplog: pytest.LogCaptureFixture) -> None:
    enough = len(voxelize(POINTS, LIMITS, (1, 1, 4), 4, len(POINTS))["voxel_coords"])
    args = {"voxel_size": [1, 1, 4], "max_points_per_voxel": 4, "max_voxel_train": 1, "max_voxel_test": enough}
    assert len(build("SpVoxelPreprocessor", args).preprocess(POINTS)["voxel_coords"]) == enough
    assert not caplog.records


def test_legacy_voxels_add_the_offset_from_the_kept_mean() -> None:
    with pytest.warns(UserWarning, match="SpVoxelPreprocessor"):
        processor = build("VoxelPreprocessor", {"vw": 1.0, "vh": 1.0, "vd": 1.0, "T": 2})
    points = np.array([[0.1, 0.2, 0.3, 1], [0.5, 0.4, 0.1, 2], [0.9, 0.9, 0.9, 3]], np.float32)

    voxels = processor.preprocess(points)

    assert voxels["voxel_coords"].tolist() == [[3, 4, 4]]
    np.testing.assert_allclose(voxels["voxel_features"][0, 0], [0.1, 0.2, 0.3, 1, -0.2, -0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(voxels["voxel_features"][0, 1], [0.5, 0.4, 0.1, 2, 0.2, 0.1, -0.1], atol=1e-6)


def test_downsampling_uses_the_generator_it_is_given() -> None:
    processor = build("BasePreprocessor", {"sample_num": 50})
    first, second = (processor.preprocess(POINTS, np.random.RandomState(1)) for _ in range(2))

    np.testing.assert_array_equal(first["downsample_lidar"], second["downsample_lidar"])
    assert len(np.unique(first["downsample_lidar"], axis=0)) == 50
    assert processor.collate([first, second])["downsample_lidar"].shape == (2, 50, 4)
    with pytest.raises(DataError, match="has 3 points"):
        processor.preprocess(POINTS[:3], np.random.RandomState(1))
    with pytest.raises(ValueError, match="generator"):
        processor.preprocess(POINTS)


def test_occupancy_counts_only_points_in_the_grid() -> None:
    geometry = {"L1": -4, "W1": -4, "H1": -3, "res": 1.0, "input_shape": [8, 8, 5]}
    processor = build("BevPreprocessor", {"res": 1.0, "downsample_rate": 4}, geometry_param=geometry)
    points = np.array([[0.5, -3.5, 0.5, 0.2], [0.6, -3.4, -2.5, 0.4], [9, 0, 0, 1], [0, 0, 7, 1]], np.float32)

    grid = processor.preprocess(points)["bev_input"]

    assert grid[:-1].sum() == 2
    assert grid[3, 4, 0] == grid[0, 4, 0] == 1
    assert grid[-1, 4, 0] == pytest.approx(0.3)
    with pytest.raises(ConfigError, match="geometry_param"):
        build("BevPreprocessor", {})
