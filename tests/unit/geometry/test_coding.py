"""Box coding and direction bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.geometry.boxes import limit_period
from opencood.geometry.coding import (
    correct_direction,
    decode_boxes,
    direction_bins,
    direction_targets,
    encode_boxes,
    flatten_head,
)
from tests.unit.geometry import plain


@settings(deadline=None, max_examples=60)
@given(plain.boxes(8), plain.boxes(8))
def test_decoding_inverts_encoding(boxes: np.ndarray, anchors: np.ndarray) -> None:
    count = min(len(boxes), len(anchors))
    boxes, anchors = boxes[:count], anchors[:count]

    np.testing.assert_allclose(decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, atol=1e-9)
    deltas = encode_boxes(torch.from_numpy(boxes), torch.from_numpy(anchors))
    np.testing.assert_allclose(deltas.numpy(), encode_boxes(boxes, anchors), atol=1e-12)
    np.testing.assert_allclose(decode_boxes(deltas, torch.from_numpy(anchors)).numpy(), boxes, atol=1e-9)


def test_units_of_the_deltas() -> None:
    anchor = np.array([1.0, 2.0, -1.0, 2.0, 3.0, 4.0, 0.5])
    box = np.array([6.0, 2.0, 1.0, 2.0 * math.e, 3.0, 4.0, 4.0])
    np.testing.assert_allclose(encode_boxes(box, anchor), [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 3.5])


def test_candidates_run_along_x_then_y_with_anchors_innermost() -> None:
    head = torch.arange(2 * 3 * 4 * 5).reshape(1, 6, 4, 5).float()
    flat = flatten_head(head, 3)
    y, x, k = 2, 3, 1
    assert flat.shape == (1, 40, 3)
    assert flat[0, (y * 5 + x) * 2 + k].tolist() == head[0, 3 * k : 3 * k + 3, y, x].tolist()
    np.testing.assert_array_equal(flatten_head(head.numpy(), 3), flat.numpy())


@settings(deadline=None, max_examples=100)
@given(st.floats(-10, 10), st.sampled_from([1, 2, 4]), st.sampled_from([0.0, 0.7853]))
def test_the_bin_of_a_yaw_restores_it_from_any_whole_turn_of_the_bin(yaw: float, bins: int, offset: float) -> None:
    value = np.array([yaw])
    chosen = direction_bins(value, bins, offset)
    confused = value + 3 * 2 * math.pi / bins

    restored = correct_direction(confused, chosen, bins, offset)

    difference = limit_period(restored - value, 0.5, 2 * math.pi)
    on_the_border = abs(limit_period(value - offset, 0.5, 2 * math.pi / bins)) < 1e-9
    assert on_the_border or abs(difference) < 1e-9
    assert -math.pi <= restored[0] < math.pi + 1e-9


def test_direction_targets_are_one_hot_of_the_absolute_yaw() -> None:
    deltas, anchors = np.array([0.1, 0.1, -3.0]), np.array([0.0, math.pi / 2, math.pi / 2])
    wanted = [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]

    assert direction_targets(deltas, anchors, 2, 0.7853).tolist() == wanted
    assert direction_targets(torch.tensor(deltas), torch.tensor(anchors), 2, 0.7853).tolist() == wanted


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_limit_period(convert: type) -> None:
    values = convert([0.0, math.pi, -math.pi, 3.5, 7.0])
    wrapped = limit_period(values)
    np.testing.assert_allclose(
        np.asarray(wrapped), [0, -math.pi, -math.pi, 3.5 - 2 * math.pi, 7 - 2 * math.pi], atol=1e-6
    )
