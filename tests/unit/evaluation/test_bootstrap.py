"""Bootstrap: the vectorised estimate equals plain resampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencood.errors import DataError
from opencood.evaluation.average_precision import average_precision
from opencood.evaluation.bootstrap import ap_interval, difference_interval, frame_weights, seeds_interval, weighted_ap
from opencood.evaluation.matching import FrameMatch


def random_match(generator: np.random.Generator, skill: float = 0.6) -> FrameMatch:
    truths = int(generator.integers(0, 8))
    scores = np.sort(generator.random(int(generator.integers(0, 12))))[::-1]
    hits = (generator.random(len(scores)) < skill) & (np.cumsum(np.ones(len(scores))) <= truths)
    return FrameMatch(scores=scores, true_positive={0.5: hits}, gt_count=truths, order=np.arange(len(scores)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_weights_equal_repeated_frames(seed):
    generator = np.random.default_rng(seed)
    frames = [random_match(generator) for _ in range(9)]
    weights = frame_weights(len(frames), 6, generator)
    values = weighted_ap(frames, 0.5, weights)
    for row, value in zip(weights, values, strict=True):
        repeated = [frame for frame, count in zip(frames, row, strict=True) for _ in range(int(count))]
        plain = average_precision(repeated, 0.5, global_sort=True).ap
        assert value == pytest.approx(plain, abs=1e-9, nan_ok=True)


def test_interval_is_seeded_and_contains_its_value():
    frames = [random_match(np.random.default_rng(seed)) for seed in range(60)]
    first = ap_interval(frames, 0.5, np.random.default_rng(1), resamples=400)
    again = ap_interval(frames, 0.5, np.random.default_rng(1), resamples=400)
    assert first == again
    assert first.lower < first.value < first.upper


def test_paired_difference_of_a_detector_with_itself_is_zero():
    frames = [random_match(np.random.default_rng(seed)) for seed in range(20)]
    same = difference_interval(frames, frames, 0.5, np.random.default_rng(0), resamples=50)
    assert (same.value, same.lower, same.upper) == (0.0, 0.0, 0.0)


def test_different_frames_cannot_be_paired():
    frames = [random_match(np.random.default_rng(seed)) for seed in range(5)]
    with pytest.raises(DataError, match="pairs"):
        difference_interval(frames, frames[:-1], 0.5, np.random.default_rng(0))


def test_no_frame_no_interval():
    with pytest.raises(DataError):
        ap_interval([], 0.5, np.random.default_rng(0))


def test_no_detection_gives_zero():
    empty = FrameMatch(scores=np.zeros(0), true_positive={0.5: np.zeros(0, bool)}, gt_count=3, order=np.zeros(0, int))
    assert weighted_ap([empty], 0.5, np.ones((1, 1))).tolist() == [0.0]


def test_one_training_has_the_interval_over_frames():
    values = np.random.default_rng(1).random((1, 501))
    found = seeds_interval(values, np.random.default_rng(2))
    assert found.value == values[0, 0]
    assert (found.lower, found.upper) == pytest.approx(tuple(np.quantile(values[0, 1:], [0.025, 0.975])))


def test_trainings_that_differ_widen_the_interval():
    frames = 0.5 + 0.01 * np.random.default_rng(1).standard_normal((3, 2001))
    apart = frames + np.array([[-0.1], [0.0], [0.1]])
    alike, different = (seeds_interval(values, np.random.default_rng(2)) for values in (frames, apart))
    assert different.value == pytest.approx(apart[:, 0].mean())
    assert different.upper - different.lower > 4 * (alike.upper - alike.lower)
