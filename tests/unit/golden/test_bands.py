"""Bands along the steps of a run, and boxes in free order."""

import numpy as np

from tests.golden.bands import band_bounds, pairing


def test_the_tightest_band_counts_and_small_values_get_a_floor() -> None:
    want = np.array([10.0, 10.0, 10.0, 0.001, 10.0])
    bands = {"step_1": {"rtol": 1e-4}, "steps_1_3": {"rtol": 1e-2}, "steps_4_10": {"rtol": 0.1}}
    bounds = band_bounds(bands, want)
    np.testing.assert_allclose(bounds[:3], [1e-3, 0.1, 0.1])
    np.testing.assert_allclose(bounds[3], 0.1 * 0.01 * want.mean())
    np.testing.assert_allclose(bounds[4], 1.0)


def test_a_step_without_a_band_can_not_pass() -> None:
    bounds = band_bounds({"steps_1_3": {"rtol": float("inf")}}, np.ones(4))
    assert np.isinf(bounds[:3]).all()
    assert np.isnan(bounds[3])


def test_boxes_find_their_partners() -> None:
    boxes = np.random.default_rng(0).normal(size=(6, 8, 3))
    shuffled = boxes[[3, 1, 5, 0, 2, 4]] + 1e-6
    np.testing.assert_allclose(shuffled[pairing(boxes, shuffled)], boxes, atol=1e-5)
    assert pairing(boxes, boxes[:2]).tolist() == [0, 1]
    assert pairing(boxes[:0], boxes[:0]).size == 0
