"""Pose noise and world augmentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.data.augment import RandomWorldFlip, RandomWorldRotation, RandomWorldScaling, build_augmentation
from opencood.data.build import build_dataset
from opencood.data.draws import Draws
from opencood.data.perturb.pose import PoseNoise, build_pose_noise
from opencood.errors import ConfigError
from opencood.geometry.boxes import boxes_to_corners_3d

NOISE = {"add_noise": True, "args": {"pos_std": 0.4, "rot_std": 0.6, "pos_mean": 0, "rot_mean": 0}}
seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("laplace", [False, True])
def test_noise_has_the_asked_spread_on_x_y_and_yaw_only(laplace: bool) -> None:
    noise = PoseNoise(0.4, 0.6, 0.1, -0.2, distribution="laplace" if laplace else "gaussian")
    draws = Draws.keyed(1)
    drawn = np.stack([noise.draw(draws) for _ in range(4000)])
    factor = np.sqrt(2) if laplace else 1
    np.testing.assert_allclose(drawn.std(axis=0), np.array([0.4, 0.4, 0, 0, 0.6, 0]) * factor, rtol=0.08)
    np.testing.assert_allclose(drawn.mean(axis=0), [0.1, 0.1, 0, 0, -0.2, 0], atol=0.06)


def test_settings_of_noise() -> None:
    assert build_pose_noise(None) is None
    assert build_pose_noise({"add_noise": False, "args": {}}) is None
    assert build_pose_noise(NOISE, needs_switch=True) is None
    assert build_pose_noise(NOISE | {"add_pose_noise": True}, needs_switch=True) == PoseNoise(0.4, 0.6)
    with pytest.raises(ConfigError, match=r"noise_setting\.args: missing rot_std"):
        build_pose_noise({"add_noise": True, "args": {"pos_std": 1}})


@pytest.mark.parametrize("method", ["intermediate", "intermediateheter", "late", "early"])
def test_ground_truth_is_made_of_clean_poses(
    folder: Callable[..., Path], hypes: Callable[..., Any], method: str
) -> None:
    root = folder()
    clean, noisy = (
        build_dataset(hypes(root, method, parity="fixed", **extra), train=False)
        for extra in ({}, {"noise_setting": NOISE})
    )
    first, second = (dataset.collate_batch_test([dataset[0]]) for dataset in (clean, noisy))
    np.testing.assert_array_equal(
        clean.post_processor.generate_gt_bbx(first), noisy.post_processor.generate_gt_bbx(second)
    )
    for agent in first:
        np.testing.assert_array_equal(first[agent]["object_bbx_center"], second[agent]["object_bbx_center"])
        np.testing.assert_array_equal(first[agent]["label_dict"]["targets"], second[agent]["label_dict"]["targets"])
        np.testing.assert_array_equal(first[agent]["lidar_pose_clean"], second[agent]["lidar_pose_clean"])
        assert not np.array_equal(first[agent]["lidar_pose"], second[agent]["lidar_pose"])


def test_noise_leaves_the_frame_it_is_given(folder: Callable[..., Path], hypes: Callable[..., Any]) -> None:
    frame = build_dataset(hypes(folder()), train=False).frame(0)
    before = [agent.lidar_pose.copy() for agent in frame.agents]
    disturbed = PoseNoise(1.0, 1.0)(frame, Draws.keyed(0))
    for agent, pose, moved in zip(frame.agents, before, disturbed.agents, strict=True):
        np.testing.assert_array_equal(agent.lidar_pose, pose)
        np.testing.assert_array_equal(moved.lidar_pose_clean, pose)
        assert np.flatnonzero(moved.lidar_pose != pose).tolist() == [0, 1, 4]


def corner_points(boxes: np.ndarray) -> np.ndarray:
    corners = boxes_to_corners_3d(boxes, "hwl").reshape(-1, 3)
    return np.concatenate([corners, np.ones((len(corners), 1), np.float32)], axis=1)


@settings(deadline=None, max_examples=40)
@given(seeds, st.sampled_from(["flip", "rotation", "scaling"]))
def test_points_stay_on_their_boxes(seed: int, kind: str) -> None:
    """The corners of a box, given as points, are the corners of the augmented box (in mirrored order after a flip)."""
    random = np.random.default_rng(seed)
    boxes = np.concatenate(
        [random.uniform(-20, 20, (5, 3)), random.uniform(1, 4, (5, 3)), random.uniform(-3, 3, (5, 1))], 1
    )
    step = {
        "flip": RandomWorldFlip(["x", "y"]),
        "rotation": RandomWorldRotation([-0.8, 0.8]),
        "scaling": RandomWorldScaling([0.9, 1.1]),
    }[kind]
    points, moved = step(corner_points(boxes), boxes, Draws.keyed(seed))
    expected = boxes_to_corners_3d(moved, "hwl")
    found = points[:, :3].reshape(5, 8, 3)
    distance = np.linalg.norm(found[:, :, None] - expected[:, None], axis=-1).min(axis=2)
    assert distance.max() < 1e-4


def test_augmentation_runs_in_order_and_changes_no_input() -> None:
    steps = [
        {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x"]},
        {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": 0.5},
        {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [1.0, 1.0]},
    ]
    boxes = np.array([[1.0, 2, 0, 1.5, 2, 4, 0.3]])
    points, copy = corner_points(boxes), boxes.copy()
    before = points.copy()
    build_augmentation(steps)(points, boxes, Draws.keyed(4))
    np.testing.assert_array_equal(boxes, copy)
    np.testing.assert_array_equal(points, before)
    assert build_augmentation(None).steps == ()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"ALONG_AXIS_LIST": ["x"]}, "NAME is missing"),
        ({"NAME": "random_world_flop"}, "Did you mean 'random_world_flip'"),
        ({"NAME": "random_world_flip"}, "missing key"),
        ({"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["z"]}, "may hold x and y"),
    ],
)
def test_wrong_steps_are_named(step: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_augmentation([step])
