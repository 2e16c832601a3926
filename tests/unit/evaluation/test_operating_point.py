"""Score thresholds: the best one by trying all, and what is left out below one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencood.evaluation.matching import FrameMatch
from opencood.evaluation.operating_point import at_threshold, best_threshold

IOU = 0.5


def frame(scores, hits, truths):
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    return FrameMatch(np.asarray(scores, float)[order], {IOU: np.asarray(hits, bool)[order]}, truths, np.asarray(order))


detections = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9]), st.booleans()), max_size=12)


@given(st.lists(st.tuples(detections, st.integers(0, 3)), min_size=1, max_size=4))
def test_the_best_threshold_is_the_best_of_all_scores(frames):
    made = [
        frame([s for s, _ in found], [h for _, h in found], sum(h for _, h in found) + extra) for found, extra in frames
    ]
    tried = [at_threshold(made, IOU, score).f1 for found, _ in frames for score, _ in found]
    chosen = best_threshold(made, IOU)
    assert at_threshold(made, IOU, chosen).f1 == pytest.approx(max(tried, default=0.0))


def test_what_is_left_out_counts_neither_as_right_nor_as_wrong():
    frames = [frame([0.9, 0.6, 0.2], [True, False, True], 3), frame([], [], 1)]
    at = at_threshold(frames, IOU, 0.5)
    assert (at.precision, at.recall) == (0.5, 0.25)
    assert at.f1 == pytest.approx(1 / 3)


def test_nothing_found_rightly_has_no_threshold():
    frames = [frame([0.9, 0.4], [False, False], 2)]
    assert best_threshold(frames, IOU) == np.inf
    at = at_threshold(frames, IOU, np.inf)
    assert (at.precision, at.recall, at.f1) == (0, 0, 0)
