"""Reports: published keys, both variants, honest special cases."""

import math

import numpy as np
import pytest
import yaml

from opencood.evaluation.detections import DetectionSet, FrameDetections
from opencood.evaluation.report import FRAME_ORDER, GLOBAL_SORT, evaluate
from opencood.evaluation.subsets import in_rectangle, only
from opencood.evaluation.tables import markdown_table, text_table
from opencood.geometry.boxes import boxes_to_corners_3d


def car(x: float, y: float = 0.0) -> list[float]:
    return [x, y, -1.0, 1.6, 2.0, 4.0, 0.0]


def frame(found: list[tuple[float, float]], truth: list[float], **about) -> FrameDetections:
    """``found``: (x, score) of cars on a line; ``truth``: x of the objects."""
    detected = np.array([car(x) for x, _ in found], np.float32).reshape(-1, 7)
    objects = np.array([car(x) for x in truth], np.float32).reshape(-1, 7)
    return FrameDetections.of(
        boxes_to_corners_3d(detected, "hwl"),
        [score for _, score in found],
        boxes_to_corners_3d(objects, "hwl"),
        **about,
    )


# First frame: a false alarm with a high score; second: two hits, one of them with a higher score still.
FRAMES = DetectionSet((frame([(50, 0.8), (0, 0.3)], [0]), frame([(0, 0.9), (20, 0.5)], [0, 20])), {"flavor": "heal"})


def test_both_variants_differ_by_the_order_of_accumulation():
    report = evaluate(FRAMES)
    assert report.ap(0.5, GLOBAL_SORT) == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)
    assert report.ap(0.5, FRAME_ORDER) == pytest.approx(3 / 4)
    assert report.ap(0.5) == report.ap(0.5, GLOBAL_SORT)


def test_evaluating_twice_gives_the_same():
    first, second = evaluate(FRAMES), evaluate(FRAMES)
    assert first.content() == second.content()


def test_content_has_the_published_keys_and_the_protocol():
    content = evaluate(FRAMES, variant=FRAME_ORDER, frames_per_second=12.5, notes=["range replaced"]).content()
    assert {"ap30", "ap_50", "ap_70", "mpre_50", "mrec_50", "mpre_70", "mrec_70"} <= set(content)
    assert content["ap_50"] == pytest.approx(3 / 4)
    assert content["ap_variant"] == FRAME_ORDER
    assert content["ap_by_variant"][GLOBAL_SORT]["0.5"] == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)
    assert (content["mrec_50"][0], content["mrec_50"][-1]) == (0.0, 1.0)
    assert content["protocol"]["flavor"] == "heal"
    assert content["protocol"]["iou_thresholds"] == [0.3, 0.5, 0.7]
    assert yaml.safe_load(yaml.safe_dump(content)) == content


def test_no_ground_truth_is_nan_with_a_message():
    report = evaluate(DetectionSet((frame([(0, 0.9)], []),)))
    assert math.isnan(report.ap(0.5))
    assert any("no ground truth" in note for note in report.notes)
    assert "NaN" in "\n".join(report.lines())


def test_no_detection_is_zero_with_a_message():
    report = evaluate(DetectionSet((frame([], [0, 10]), frame([], []))))
    assert report.ap(0.3) == 0.0
    assert any("nothing was detected" in note for note in report.notes)


def test_a_frame_without_detections_still_counts_its_objects():
    report = evaluate(DetectionSet((frame([(0, 0.9)], [0]), frame([], [0]))))
    assert report.ap(0.5) == pytest.approx(0.5)


def test_no_frame_at_all():
    report = evaluate(DetectionSet(()))
    assert math.isnan(report.ap(0.7))
    assert report.frames == 0


def test_lines_say_what_was_measured():
    report = evaluate(DetectionSet((frame([(0, 0.9)], [0], message_bytes=1_000_000),)), frames_per_second=20.0)
    text = "\n".join(report.lines())
    assert "AP@0.5 1.0000" in text
    assert "8 megabits/frame" in text
    assert "20.0 frames/s" in text


def test_several_classes_are_matched_apart_and_averaged_plainly():
    corners = boxes_to_corners_3d(np.array([car(x) for x in (0, 20, 40)], np.float32), "hwl")
    truth = (corners, [1, 1, 2])
    scored = np.array([[0.9, 1], [0.8, 2], [0.7, 2]], np.float32)  # the second is found, but as another class
    frames = DetectionSet((FrameDetections.of(corners, scored, truth),), {"classes": ["vehicle", "pedestrian"]})

    report = evaluate(frames)
    assert {name: r[GLOBAL_SORT][0.5].ap for name, r in report.by_class.items()} == pytest.approx(
        {"vehicle": 0.5, "pedestrian": 0.5}
    )
    assert report.ap(0.5) == pytest.approx(0.5) and report.ground_truths == 3
    content = report.content()
    assert content["ap_by_class"]["pedestrian"][GLOBAL_SORT]["0.5"] == pytest.approx(0.5)
    assert yaml.safe_load(yaml.safe_dump(content)) == content
    assert "  pedestrian" in "\n".join(report.lines())


def test_a_class_without_ground_truth_is_left_out_of_the_mean():
    corners = boxes_to_corners_3d(np.array([car(0), car(20)], np.float32), "hwl")
    scored = np.array([[0.9, 1], [0.8, 3]], np.float32)
    report = evaluate(DetectionSet((FrameDetections.of(corners, scored, (corners[:1], [1])),)))
    assert report.ap(0.5) == 1.0
    assert math.isnan(report.by_class["class 3"][GLOBAL_SORT][0.5].ap)


def test_bands_of_distance_are_evaluated_by_themselves():
    report = evaluate(FRAMES, bands={"near": (0.0, 10.0), "beyond": (10.0, 100.0), "all": None})
    # a car at the ego itself is at distance 0, which no band holds
    assert math.isnan(report.by_range["near"].results[GLOBAL_SORT][0.5].ap)
    assert report.by_range["beyond"].results[GLOBAL_SORT][0.5].ap == pytest.approx(1 / 2)
    assert report.by_range["all"].areas() == report.content()["ap_by_variant"] | {"ground_truths": report.ground_truths}
    counts = {name: figures.ground_truths for name, figures in report.by_range.items()}
    assert counts["near"] == 0 and 0 < counts["beyond"] < counts["all"] == report.ground_truths
    content = report.content()
    assert content["ap_by_range"]["beyond"][FRAME_ORDER]["0.5"] == pytest.approx(1 / 2)
    assert content["protocol"]["ranges"] == {"near": [0.0, 10.0], "beyond": [10.0, 100.0], "all": None}
    assert f"({counts['beyond']} objects)" in "\n".join(report.lines())


def test_ground_truths_are_counted_by_class_and_band():
    truth = (boxes_to_corners_3d(np.array([car(2), car(5), car(40)], np.float32), "hwl"), np.array([1, 2, 2]))
    frames = DetectionSet((FrameDetections.of(None, None, truth),), {"classes": ["vehicle", "pedestrian"]})
    report = evaluate(frames, bands={"short": (0.0, 30.0), "middle": (30.0, 50.0)})
    assert report.content()["ground_truths_by_class"] == {"vehicle": 1, "pedestrian": 2}
    assert report.by_range["short"].ground_truths_by_class == {"vehicle": 1, "pedestrian": 1}
    areas = report.content()["ap_by_range"]["middle"]
    assert areas["ground_truths"] == 1 and areas["by_class"]["vehicle"]["ground_truths"] == 0


def test_a_class_file_holds_curves_by_class_and_threshold():
    truth = (boxes_to_corners_3d(np.array([car(0), car(20)], np.float32), "hwl"), np.array([1, 2]))
    scored = np.array([[0.9, 1]], np.float32)
    frames = DetectionSet(
        (FrameDetections.of(truth[0][:1], scored, truth),), {"classes": ["vehicle", "pedestrian", "truck"]}
    )
    content = evaluate(frames, thresholds=(0.3, 0.5)).published_classes()
    assert list(content) == ["vehicle", "pedestrian", "truck"]
    assert content["vehicle"][0.5] == {"ap": 1.0, "mrec": [0.0, 1.0, 1.0], "mpre": [1.0, 1.0, 0.0]}
    assert content["pedestrian"][0.3]["ap"] == 0.0
    assert math.isnan(content["truck"][0.3]["ap"])  # the data have none


def test_a_rectangle_keeps_boxes_that_lie_within():
    near = only(FRAMES, lambda corners: in_rectangle(corners, 21.9, 2.0))
    assert [len(frame.boxes) for frame in near] == [1, 1]
    assert [len(frame.boxes) for frame in only(FRAMES, lambda corners: in_rectangle(corners, 22.0, 2.0))] == [1, 2]


def test_tables():
    header, rows = ["method", "AP"], [["late", "0.5"], ["intermediate", "0.75"]]
    assert text_table(header, rows).splitlines()[-1] == "intermediate  0.75"
    assert markdown_table(header, rows).splitlines()[1] == "| --- | ---: |"
