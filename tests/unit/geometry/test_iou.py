"""Footprint IoU: the compiled kernel and its tensor twin against shapely."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.geometry.boxes import bev_corners, boxes2d_to_corners2d, boxes_to_corners_3d
from opencood.geometry.iou import bev_iou, footprints, standup_iou_plus_one
from opencood.geometry.iou_torch import bev_iou_torch, paired_iou_3d
from tests.unit.geometry import plain


@settings(deadline=None, max_examples=150)
@given(plain.polygons(), plain.polygons())
def test_kernel_and_twin_agree_with_shapely(first: np.ndarray, second: np.ndarray) -> None:
    wanted = plain.iou(first.astype(np.float64), second.astype(np.float64))

    got = bev_iou(first, second)
    twin = bev_iou_torch(torch.from_numpy(first), torch.from_numpy(second)).numpy()

    assert got.dtype == twin.dtype == np.float32
    assert got.shape == twin.shape == (len(first), len(second))
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    np.testing.assert_allclose(twin, wanted, atol=1e-5)


def square(x: float, y: float, side: float, yaw: float = 0.0) -> np.ndarray:
    return boxes2d_to_corners2d(np.array([[x, y, side, side, yaw]]))


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (square(0, 0, 2), square(0, 0, 2), 1.0),
        (square(0, 0, 2), square(2, 0, 2), 0.0),  # a common edge
        (square(0, 0, 2), square(2, 2, 2), 0.0),  # a common corner
        (square(0, 0, 4), square(0.5, 0.5, 2), 0.25),  # nested
        (square(0, 0, 4), square(1, 1, 2), 0.25),  # nested, sharing a corner
        (square(0, 0, 2), square(0, 0, 2, np.pi / 4), np.sqrt(2) / 2),  # an octagon over an eight-pointed star
        (square(0, 0, 2), square(50, 0, 2), 0.0),
        (square(0, 0, 2), square(0, 0, 0), 0.0),  # no area
        (square(0, 0, 0), square(0, 0, 0), 0.0),
    ],
)
def test_known_overlaps(first: np.ndarray, second: np.ndarray, wanted: float) -> None:
    assert bev_iou(first, second) == pytest.approx(wanted, abs=1e-6)
    assert bev_iou_torch(torch.from_numpy(first), torch.from_numpy(second)).item() == pytest.approx(wanted, abs=1e-6)


def test_turning_direction_of_the_corners_does_not_matter() -> None:
    first, second = square(0, 0, 2, 0.3), square(0.5, 0.2, 3, 1.0)
    mirrored = first[:, ::-1]

    assert bev_iou(mirrored, second) == bev_iou(first, second)
    assert bev_iou_torch(torch.tensor(mirrored.copy()), torch.tensor(second)) == bev_iou(first, second)


def test_far_from_the_origin_nothing_is_lost() -> None:
    shift = np.array([20_000.0, -30_000.0])
    first, second = square(0, 0, 2, 0.3).astype(np.float64), square(0.5, 0.2, 3, 1.0).astype(np.float64)
    np.testing.assert_allclose(bev_iou(first + shift, second + shift), bev_iou(first, second), atol=1e-6)


def test_heights_are_ignored_and_empty_inputs_give_empty_results() -> None:
    boxes = boxes_to_corners_3d(np.array([[0, 0, 0, 1.5, 2, 4, 0.4], [0, 0, 50, 3, 2, 4, 0.4]]), "hwl")
    nothing = np.zeros((0, 8, 3), np.float32)

    assert bev_iou(boxes[:1], boxes[1:]).item() == 1
    assert bev_iou(nothing, boxes).shape == (0, 2)
    assert bev_iou(boxes, nothing).shape == (2, 0)
    assert bev_iou_torch(torch.zeros(0, 8, 3), torch.from_numpy(boxes)).shape == (0, 2)


def test_twin_takes_batches() -> None:
    generator = np.random.default_rng(0)
    first, second = (boxes2d_to_corners2d(generator.normal(size=(12, 5)) + (0, 0, 4, 3, 0)) for _ in range(2))
    batched = bev_iou_torch(torch.from_numpy(first).reshape(3, 4, 4, 2), torch.from_numpy(second).reshape(3, 4, 4, 2))

    for sample in range(3):
        rows = slice(4 * sample, 4 * sample + 4)
        np.testing.assert_allclose(batched[sample].numpy(), bev_iou(first[rows], second[rows]), atol=1e-6)


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(2, 7\)"):
        footprints(np.zeros((2, 7)))


@settings(deadline=None, max_examples=60)
@given(plain.boxes(6), plain.boxes(6))
def test_standup_iou_is_equal_to_the_bit_to_its_definition(first: np.ndarray, second: np.ndarray) -> None:
    bounds = [np.zeros((0, 4), np.float32) for _ in range(2)]
    for place, found in enumerate((first, second)):
        if len(found):
            corners = boxes_to_corners_3d(found, "hwl")
            bounds[place] = np.concatenate([corners[..., :2].min(axis=1), corners[..., :2].max(axis=1)], axis=1)
    wanted = [[plain.standup_iou(a, b) for b in bounds[1]] for a in bounds[0]]

    got = standup_iou_plus_one(*bounds)

    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.array(wanted, np.float32).reshape(got.shape))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_volumes_overlap_like_footprints_times_heights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform([-2, -2, -1, 1, 1, 1, -4], [2, 2, 1, 3, 3, 5, 4], (2, 8, 7))  # x, y, z, h, w, l, yaw
    first, second = (boxes_to_corners_3d(values, "hwl") for values in boxes)

    volumes = boxes[..., 3] * boxes[..., 4] * boxes[..., 5]
    iou = np.diag(plain.iou(bev_corners(first), bev_corners(second)))
    areas = volumes / boxes[..., 3]
    common = iou * areas.sum(axis=0) / (1 + iou)
    low, high = boxes[..., 2] - boxes[..., 3] / 2, boxes[..., 2] + boxes[..., 3] / 2
    shared = common * np.clip(high.min(axis=0) - low.max(axis=0), 0, None)

    got = paired_iou_3d(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(got, shared / (volumes.sum(axis=0) - shared), atol=1e-6)


def test_a_box_without_volume_overlaps_nothing() -> None:
    flat = torch.zeros(1, 8, 3)
    box = torch.from_numpy(boxes_to_corners_3d(np.array([[0, 0, 0, 1.5, 2, 4, 0.0]]), "hwl"))
    assert paired_iou_3d(flat, box).tolist() == paired_iou_3d(flat, flat).tolist() == [0.0]
