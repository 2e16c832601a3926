"""The demonstration at its smallest: every step runs, is recorded, and is not repeated."""

import json

import numpy as np
import pytest
import yaml

from opencood.errors import ConfigError
from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.experiments.demo import ROWS, run_demo
from opencood.experiments.demo_pictures import most_telling_frame
from opencood.geometry.boxes import boxes_to_corners_3d


@pytest.mark.slow
def test_the_smallest_demo_runs_and_resumes(tmp_path):
    out = tmp_path / "demo"
    result = run_demo(out, "smallest", device="cpu")
    assert list(result.reports) == [row.label for row in ROWS]
    assert result.reports["no fusion"].ground_truths == result.reports["intermediate"].ground_truths > 20
    text = "\n".join(result.lines())
    for word in ("no fusion", "AP@0.7", "megabits/frame", "frames/s", "comparison.png"):
        assert word in text
    assert result.pictures[0].is_file()
    assert yaml.safe_load((out / "summary.yaml").read_text())["rows"]["early"]["megabits_per_frame"] > 0

    before = json.loads((out / "steps.json").read_text())
    again = run_demo(out, "smallest", device="cpu")
    assert json.loads((out / "steps.json").read_text()) == before
    assert again.gain == result.gain


def test_an_unknown_preset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="smallest"):
        run_demo(tmp_path, "tiny")


def test_the_most_telling_frame_is_where_collaboration_finds_more():
    truth = boxes_to_corners_3d(np.array([[x, 0, -1, 1.6, 2, 4.5, 0] for x in (0, 10, 20)], np.float32), "hwl")

    def frame(found: int) -> FrameDetections:
        return FrameDetections.of(truth[:found], np.ones(found), truth)

    alone = DetectionSet((frame(3), frame(1), frame(0)))
    together = DetectionSet((frame(3), frame(3), frame(1)))
    assert most_telling_frame(alone, together) == 1
