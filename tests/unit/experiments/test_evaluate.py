"""Stored detections are evaluated again in any part, and every evaluation of a tool has a file of its own."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from opencood.errors import ConfigError
from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.evaluation.report import FRAME_ORDER, GLOBAL_SORT
from opencood.experiments.evaluate import EvaluationOptions, evaluate_file, parse_bands
from opencood.experiments.results import labelled, write_results
from opencood.geometry.boxes import boxes_to_corners_3d


@pytest.fixture
def stored(tmp_path) -> Path:
    """Cars at 10 m and 40 m, a pedestrian at 20 m; the far car is missed."""
    boxes = np.array([[10, 0, 0, 1.6, 2, 4, 0], [20, 0, 0, 1.7, 0.6, 0.6, 0], [40, 0, 0, 1.6, 2, 4, 0]], np.float32)
    corners = boxes_to_corners_3d(boxes, "hwl")
    scores = np.array([[0.9, 1], [0.8, 2]], np.float32)
    frame = FrameDetections.of(corners[:2], scores, (corners, np.array([1, 2, 1])), message_bytes=1000)
    protocol = {"classes": ["vehicle", "pedestrian"], "flavor": "gencomm", "quirks": {"ap_global_sort": False}}
    return DetectionSet((frame,), protocol).save(tmp_path / "boxes.npz")


def test_the_run_decides_the_variant_unless_told(stored):
    assert evaluate_file(stored).variant == FRAME_ORDER
    assert evaluate_file(stored, EvaluationOptions(variant=GLOBAL_SORT)).variant == GLOBAL_SORT
    assert set(evaluate_file(stored).results) == {GLOBAL_SORT, FRAME_ORDER}


def test_thresholds_ranges_and_classes_choose_a_part(stored):
    whole = evaluate_file(stored, EvaluationOptions(thresholds=(0.5,)))
    assert whole.ap(0.5) == pytest.approx((0.5 + 1.0) / 2)
    near = evaluate_file(stored, EvaluationOptions(range_xy="30,30", bands="0-15,15-30"))
    assert near.ground_truths == 2 and near.ap(0.5) == 1.0
    assert set(near.by_range) == {"0-15 m", "15-30 m"}
    assert near.protocol["evaluated_range"] == [30.0, 30.0]
    cars = evaluate_file(stored, EvaluationOptions(classes=["vehicle"]))
    assert (cars.ground_truths, cars.detections, list(cars.by_class)) == (2, 1, ["vehicle"])
    assert cars.ap(0.5) == pytest.approx(0.5)
    assert len(cars.protocol["detections"]["sha256"]) == 64


def test_the_result_file_is_written(stored, tmp_path):
    report = evaluate_file(stored, EvaluationOptions(out=tmp_path / "out" / "again.yaml", bands="published"))
    text = (tmp_path / "out" / "again.yaml").read_text()
    assert text == yaml.safe_dump(report.content(), sort_keys=False)
    content = yaml.safe_load(text)
    assert list(content["ap_by_range"]) == ["short", "middle", "long", "all"]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"thresholds": (0.0,)}, "--iou"),
        ({"variant": "sorted"}, "--variant"),
        ({"range_xy": "30"}, "--range"),
        ({"bands": "30-0"}, "--bands"),
        ({"bands": "near"}, "--bands"),
        ({"classes": ["vehicles"]}, "Did you mean 'vehicle'"),
    ],
)
def test_wrong_choices_are_named(stored, wrong, word):
    with pytest.raises(ConfigError, match=word):
        evaluate_file(stored, EvaluationOptions(**wrong))


def test_bands_are_read():
    assert parse_bands(None) is None
    assert parse_bands("0-30,30-50.5") == {"0-30 m": (0, 30), "30-50.5 m": (30, 50.5)}


def test_each_of_several_evaluations_has_its_file():
    assert labelled(Path("a/boxes.npz"), "use_cav2") == Path("a/boxes_use_cav2.npz")
    assert labelled(None, "use_cav2") is None


def test_several_classes_have_their_published_files(stored, tmp_path):
    report = evaluate_file(stored)
    names = [path.name for path in write_results(report, tmp_path, "intermediate_epoch1")]
    assert names == [
        "eval_global_sort_intermediate_epoch1.yaml",
        "eval_intermediate_epoch1.yaml",
        "global_sort_intermediate_epoch1_eval.yaml",
        "_intermediate_epoch1_eval.yaml",
    ]
    content = yaml.safe_load((tmp_path / "_intermediate_epoch1_eval.yaml").read_text())
    assert content == report.published_classes(FRAME_ORDER) and set(content["vehicle"]) == {0.3, 0.5, 0.7}
