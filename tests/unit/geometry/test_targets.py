"""Target assignment near each box against the dense assignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from opencood.errors import ConfigError
from opencood.geometry.anchors import AnchorIndex, anchor_grid
from opencood.geometry.coding import decode_boxes
from opencood.geometry.targets import assign_targets, claim_anchors
from tests.unit.geometry import plain

ARGS = {
    "cav_lidar_range": [-6.4, -4.8, -3, 6.4, 4.8, 1], "l": 3.9, "w": 1.6, "h": 1.56, "r": [0, 90], "num": 2,
    "vw": 0.4, "vh": 0.4, "W": 32, "H": 24,
}  # fmt: skip
INDEX = AnchorIndex(anchor_grid(ARGS, "hwl"), "hwl")


@settings(deadline=None, max_examples=40)
@given(plain.boxes())
def test_equal_to_the_dense_assignment(boxes: np.ndarray) -> None:
    owner, negative = plain.claims(boxes, INDEX.anchors.reshape(-1, 7), 0.6, 0.45)

    claims, is_negative = claim_anchors(boxes, INDEX, 0.6, 0.45)

    assert claims.reshape(-1).tolist() == owner.tolist()
    assert is_negative.reshape(-1).tolist() == negative.tolist()


@settings(deadline=None, max_examples=20)
@given(plain.boxes(6))
def test_targets_decode_to_the_boxes_that_own_them(boxes: np.ndarray) -> None:
    labels = assign_targets(boxes, np.ones(len(boxes)), INDEX, "hwl", 0.6, 0.45)
    positive = labels["pos_equal_one"] == 1
    claims = claim_anchors(boxes, INDEX, 0.6, 0.45)[0]

    targets = labels["targets"].reshape(*positive.shape, 7)

    assert not targets[~positive].any()
    np.testing.assert_allclose(
        decode_boxes(targets[positive], INDEX.anchors[positive]), boxes[claims[positive]], atol=1e-9
    )


def test_empty_scene_is_all_negative() -> None:
    labels = assign_targets(np.zeros((5, 7)), np.zeros(5), INDEX, "hwl", 0.6, 0.45)
    assert labels["neg_equal_one"].all()
    assert not labels["pos_equal_one"].any()
    assert labels["targets"].shape == (12, 16, 14)


def test_padding_may_stand_anywhere_and_holds_anything() -> None:
    box = np.array([[1.0, 0.5, -1, 1.5, 1.6, 4.0, 0.2]])
    padded = np.concatenate([np.full((1, 7), np.nan), box, np.zeros((2, 7))])

    alone = assign_targets(box, np.ones(1), INDEX, "hwl", 0.6, 0.45)
    got = assign_targets(padded, np.array([0, 1, 0, 0]), INDEX, "hwl", 0.6, 0.45)

    for name, wanted in alone.items():
        np.testing.assert_array_equal(got[name], wanted)


def test_boxes_far_outside_the_grid_claim_nothing() -> None:
    labels = assign_targets(np.array([[500.0, 0, -1, 1.5, 1.6, 4, 0]]), np.ones(1), INDEX, "hwl", 0.6, 0.45)
    assert not labels["pos_equal_one"].any()
    assert labels["neg_equal_one"].all()


def test_anchors_without_index_give_the_same() -> None:
    box = np.array([[1.0, 0.5, -1, 1.5, 1.6, 4.0, 0.2]])
    first = assign_targets(box, np.ones(1), INDEX, "hwl", 0.6, 0.45)
    second = assign_targets(box, np.ones(1), INDEX.anchors, "hwl", 0.6, 0.45)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("order", "positive", "negative"), [("lwh", 0.6, 0.45), ("hwl", 0.4, 0.5), ("hwl", 0.6, 0.0)])
def test_impossible_settings_are_refused(order: str, positive: float, negative: float) -> None:
    with pytest.raises(ConfigError, match="postprocess"):
        assign_targets(np.zeros((0, 7)), np.zeros(0), INDEX.anchors, order, positive, negative)
